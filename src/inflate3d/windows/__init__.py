"""The store to batches."""

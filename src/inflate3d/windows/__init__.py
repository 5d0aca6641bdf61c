"""Batches of windows from the store."""

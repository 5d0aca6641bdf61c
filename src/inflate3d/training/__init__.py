"""Training: from batches to a trained network."""

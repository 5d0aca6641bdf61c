"""Arms under one protocol to one table."""

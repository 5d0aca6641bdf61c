"""Cases to the store."""

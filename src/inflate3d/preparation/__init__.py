"""Preparation of datasets: from cases to the store."""

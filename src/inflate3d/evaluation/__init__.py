"""Scoring of label maps."""

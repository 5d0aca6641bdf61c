"""Scores and scans to figures and a page."""

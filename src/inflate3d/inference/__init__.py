"""Scans to label maps."""

"""Prediction: scans to label maps."""

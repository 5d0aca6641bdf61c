"""Figures and pages from scores and scans."""

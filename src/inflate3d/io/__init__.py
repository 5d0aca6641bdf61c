"""Scan files to volumes, label maps to files."""

from inflate3d.io.scan import SUFFIXES, check_same_grid, read_images, read_labels, read_volume, write_labels

__all__ = [
    "SUFFIXES",
    "check_same_grid",
    "read_images",
    "read_labels",
    "read_volume",
    "write_labels",
]

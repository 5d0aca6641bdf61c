"""Reading and writing scans and label maps."""

from inflate3d.io.dicom.series import Series, find_series
from inflate3d.io.formats import SUFFIXES, WRITABLE_SUFFIXES, label_name, label_suffix, scan_files, stem_of, suffix_of
from inflate3d.io.grid import FileGrid, check_same_grid, lay_on
from inflate3d.io.scan import (
    check_labels_writable,
    read_grid,
    read_images,
    read_labels,
    read_volume,
    write_labels,
    write_percent,
    write_volume,
)

__all__ = [
    "SUFFIXES",
    "WRITABLE_SUFFIXES",
    "FileGrid",
    "Series",
    "check_labels_writable",
    "check_same_grid",
    "find_series",
    "label_name",
    "label_suffix",
    "lay_on",
    "read_grid",
    "read_images",
    "read_labels",
    "read_volume",
    "scan_files",
    "stem_of",
    "suffix_of",
    "write_labels",
    "write_percent",
    "write_volume",
]

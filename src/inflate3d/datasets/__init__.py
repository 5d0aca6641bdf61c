"""Dataset layouts, read into cases and splits."""

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.layouts import read_dataset
from inflate3d.datasets.splits import Split, kfold_split

__all__ = ["Case", "Dataset", "Split", "kfold_split", "read_dataset"]

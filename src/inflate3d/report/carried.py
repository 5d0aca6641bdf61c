"""Scans that a page carries in itself, to be scrolled by the viewer without any other file."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from inflate3d.datasets import Case
from inflate3d.io import read_images
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Plan
from inflate3d.report.cases import Method, labels_on, prediction_file
from inflate3d.report.sheet import LabelMap, list_classes
from inflate3d.viewer.images import eight_bit, label_nifti, nifti, setup


@dataclass(frozen=True)
class CarriedCase:
    """A case's files in the page.

    Attributes:
        setup: What the viewer's script is told.
        files: Name to file in base64.
    """

    setup: dict[str, object]
    files: dict[str, str]


def carry_case(case: Case, plan: Plan, method: Method) -> CarriedCase:
    """A scan with its label map and its prediction, side by side.

    The scan is kept in 256 steps from the plan's black to its white: pages are to be sent, and a viewer's contrast
    needs no more.

    Args:
        case: A held-out case.
        plan: How its values become gray.
        method: Whose prediction is shown.

    Raises:
        DataError: A file is missing, can't be read, or lies on another grid.
    """
    scan = read_images(case.images, case=case.id)
    assert case.label is not None, "held-out cases have labels"
    black_white = to_model_space(scan, plan).value_ranges(plan.normalization)[0]
    files = {"label": case.label, "prediction": prediction_file(method, case)}
    maps = [LabelMap(name, labels_on(scan, file, case.id)) for name, file in files.items()]
    classes = list_classes(maps, plan.classes)
    contents = {
        "scan": nifti(eight_bit(scan.array[0], black_white), scan.affine),
        **{f"map{place}": label_nifti(each.array, scan.affine, classes) for place, each in enumerate(maps)},
    }
    return CarriedCase(
        setup(case.id, list(files), classes, (0.0, 255.0)),
        {name: base64.b64encode(content).decode("ascii") for name, content in contents.items()},
    )

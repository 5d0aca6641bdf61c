"""``model.json`` beside an exported network: all that a program in any language needs besides the network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from inflate3d.atomic import write_text
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.export.network import INPUT, OUTPUT
from inflate3d.models.architecture import Architecture
from inflate3d.models.depth_mixing import REACH
from inflate3d.orientation import DepthAxis, frame_axes
from inflate3d.preparation.plan import Plan
from inflate3d.settings import FrozenModel
from inflate3d.version import __version__

Format = Literal["onnx", "openvino", "torch-export"]

FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}
"""The file to open, by format; openvino has a second one beside it, with the weights."""

DESCRIPTION = "model.json"


class TensorDescription(FrozenModel):
    """The network's input or output, float32.

    Attributes:
        axes: What each axis is.
        shape: Its length; None for any.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int | None, ...]


class ClassDescription(FrozenModel):
    """A class: its place is its channel in the logits, unless the plan has regions, whose places are."""

    value: int
    """In label maps."""
    name: str


class WindowDescription(FrozenModel):
    """How slices of a scan become windows, for each plane that is predicted and averaged; mostly there is one.

    Attributes:
        axes: Where the slices' depth, rows and columns lead to: S (superior), R (right), A (anterior).
        slice_spacing: Millimeters between slices that a scan is resampled to; None keeps its own.
        pixel_spacing: Millimeters between rows and between columns of the input, for a slice that is not larger than
            the input; None lets each slice fill the input.
        offsets: The slices of a window, relative to the one that is predicted; the end slices are repeated.
        reach: How many slices away a slice of a slab is that still changes a slice's logits; 0 for windows. A slab with
            as many more slices at both ends gives the same logits as the whole scan.
    """

    depth_axis: DepthAxis
    axes: str
    slice_spacing: float | None
    pixel_spacing: tuple[float, float] | None
    offsets: tuple[int, ...]
    reach: int = 0


class Check(FrozenModel):
    """How the file's logits were compared with torch's when it was written.

    Attributes:
        program: What computed the file.
        largest_difference: Of random windows, as a fraction of the largest logit or of 1.
    """

    program: str
    largest_difference: float


class Int8Check(FrozenModel):
    """The mean Dice of the held-out cases in model space, before and after."""

    cases: int
    dice_float32: float
    dice_int8: float


class ExportedModel(FrozenModel):
    """All about an exported network."""

    version: Literal[1] = 1
    inflate3d: str = __version__
    format: Format
    file: str
    weights: Literal["float32", "float16", "int8"]
    input: TensorDescription
    output: TensorDescription
    classes: tuple[ClassDescription, ...]
    windows: tuple[WindowDescription, ...]
    plan: Plan
    architecture: Architecture
    postprocessing: Postprocessing | None
    check: Check
    int8: Int8Check | None = None

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        plan: Plan,
        *,
        format: Format,  # noqa: A002 - the option's name
        weights: Literal["float32", "float16", "int8"],
        postprocessing: Postprocessing | None,
        check: Check,
        int8: Int8Check | None = None,
    ) -> ExportedModel:
        """Describes a network that was written in a format."""
        rows, columns = architecture.image_size
        channels, depth, outputs = architecture.in_channels, architecture.depth, architecture.num_classes
        takes_slabs = architecture.depth_mixing != "none"
        channel = "region" if plan.regions else "class"
        return cls(
            format=format,
            file=FILES[format],
            weights=weights,
            input=TensorDescription(
                name=INPUT,
                axes=("slab" if takes_slabs else "window", "modality", "slice", "row", "column"),
                shape=(None, channels, None if takes_slabs else depth, rows, columns),
            ),
            output=TensorDescription(
                name=OUTPUT,
                axes=("slab", channel, "slice", "row", "column")
                if takes_slabs
                else ("window", channel, "row", "column"),
                shape=(None, outputs, *[None] * takes_slabs, rows, columns),
            ),
            classes=tuple(ClassDescription(value=value, name=name) for value, name in plan.classes.items()),
            windows=tuple(_windows(each, depth, REACH if takes_slabs else 0) for each in plan.plane_plans),
            plan=plan,
            architecture=architecture,
            postprocessing=postprocessing,
            check=check,
            int8=int8,
        )

    def write(self, folder: Path) -> None:
        """Writes ``model.json``.

        Raises:
            OutputError: It can't be written.
        """
        write_text(folder / DESCRIPTION, self.model_dump_json(indent=2) + "\n")


def _windows(plan: Plan, depth: int, reach: int) -> WindowDescription:
    return WindowDescription(
        depth_axis=plan.depth_axis,
        axes="".join("RAS"[world] for world in frame_axes(plan.depth_axis)),
        slice_spacing=plan.slice_spacing,
        pixel_spacing=plan.pixel_spacing,
        offsets=tuple(plan.stride * (number - depth // 2) for number in range(depth)),
        reach=reach,
    )

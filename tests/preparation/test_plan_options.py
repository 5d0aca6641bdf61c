import math

import pytest
from pydantic import ValidationError

from inflate3d.preparation.plan_options import PlanOptions


@pytest.mark.parametrize("size", [(0, 0), (-32, 64), (64, 15), (100, 50_000)])
def test_planned_size_is_one_that_an_image_can_have(size):
    with pytest.raises(ValidationError, match="rows and columns, each of 16 to 4096 pixels"):
        PlanOptions(planned_size=size)


@pytest.mark.parametrize("spacing", [(1.0, 0.0, 1.0), (-1.0, 1.0, 1.0), (math.nan, 1.0, 1.0), (1.0, 1.0, math.inf)])
def test_spacing_is_a_length(spacing):
    with pytest.raises(ValidationError, match="three lengths above 0 in mm"):
        PlanOptions(spacing=spacing)


@pytest.mark.parametrize("clip", [(5.0, 5.0), (5.0, 4.0)])
def test_clip_is_a_range(clip):
    with pytest.raises(ValidationError, match="a range of voxel values, the lower one first"):
        PlanOptions(clip=clip)


@pytest.mark.parametrize("clip", [(math.nan, 5.0), (0.0, math.inf), (-math.inf, 0.0)])
def test_clip_is_finite(clip):
    with pytest.raises(ValidationError, match="finite number"):
        PlanOptions(clip=clip)


def test_bounds_can_be_used():
    options = PlanOptions(planned_size=(16, 4096), spacing=(1000.0, 0.1, 0.1), clip=(-1e9, 1e9))
    assert PlanOptions.model_validate_json(options.model_dump_json()) == options


def test_options_as_the_command_line_has_them():
    options = PlanOptions(
        depth_axis="axial",
        planned_size=(96, 64),
        spacing=(3.0, 0.8, 0.8),
        clip=(-175.0, 250.5),
        flips=False,
        merge=("kidneys=left kidney+right kidney", "x=2+3"),
        allow_missing_modality=True,
    )
    assert options.as_flags(["depth_axis", "planned_size", "spacing"]) == (
        "--depth-axis axial, --planned-size 96 64, --spacing 3 0.8 0.8"
    )
    assert options.as_flags(["clip", "flips"]) == "--clip -175 250.5, --flips False"
    assert options.as_flags(["merge"]) == "--merge 'kidneys=left kidney+right kidney' x=2+3"
    assert options.as_flags(["allow_missing_modality"]) == "--allow-missing-modality"
    assert PlanOptions().as_flags(["clip", "spacing", "classes"]) == "no --clip, no --spacing, no --classes"

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.inflation import flatten_depth, inflate_stem


def test_center_puts_gray_on_the_middle_slice():
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)

    inflated = inflate_stem(weight, depth=5, in_channels=2, method="center")

    assert inflated.shape == (1, 2, 5, 1, 1)
    assert inflated[0, 0, :, 0, 0].tolist() == [0, 0, 3.5, 0, 0]
    assert inflated[0, 1, :, 0, 0].tolist() == [0, 0, 3.5, 0, 0]


def test_average_puts_gray_on_every_slice():
    weight = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)

    inflated = inflate_stem(weight, depth=3, in_channels=2, method="average")

    assert inflated[0, :, :, 0, 0].tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("method", ["center", "average"])
def test_one_slice_of_one_modality_is_the_gray_sum(method):
    weight = torch.randn(4, 3, 2, 2)

    inflated = inflate_stem(weight, depth=1, in_channels=1, method=method)

    torch.testing.assert_close(inflated[:, 0, 0], weight.sum(dim=1))


def test_kernel_keeps_its_rows_columns_and_type():
    weight = torch.randn(4, 3, 2, 5, dtype=torch.float64)

    inflated = inflate_stem(weight, depth=3, in_channels=2)

    assert inflated.dtype == torch.float64
    torch.testing.assert_close(inflated[:, 1, 1], weight.sum(dim=1) / 2)


def test_gray_stem_is_taken_as_it_is():
    weight = torch.randn(4, 1, 2, 2)

    torch.testing.assert_close(inflate_stem(weight, depth=3, in_channels=1)[:, 0, 1], weight[:, 0])


def test_flattened_convolution_is_the_3d_one():
    weight = torch.randn(6, 2, 3, 4, 4)
    windows = torch.randn(2, 2, 3, 16, 16)

    flat = F.conv2d(flatten_depth(windows), flatten_depth(weight), stride=4)

    torch.testing.assert_close(flat, F.conv3d(windows, weight, stride=(1, 4, 4)).squeeze(2))


def test_channels_are_modality_by_modality():
    tensor = torch.arange(6.0).view(1, 2, 3, 1, 1)  # value = 3 * modality + slice

    assert flatten_depth(tensor)[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("depth", [0, -1, 2, 4])
def test_depth_without_a_middle_slice_is_refused(depth):
    with pytest.raises(ConfigError, match="odd") as caught:
        inflate_stem(torch.randn(1, 3, 1, 1), depth=depth, in_channels=1)
    assert caught.value.got == depth


def test_no_modality_is_refused():
    with pytest.raises(ConfigError, match="modalities"):
        inflate_stem(torch.randn(1, 3, 1, 1), depth=1, in_channels=0)


@pytest.mark.parametrize("channels", [2, 4, 48])
def test_stems_of_other_images_are_refused(channels):
    with pytest.raises(ModelError, match="can't be inflated"):
        inflate_stem(torch.randn(8, channels, 3, 3), depth=3, in_channels=1)


@pytest.mark.slow
def test_importing_the_rule_needs_no_timm():
    code = "import sys, inflate3d.models.inflation; sys.exit('timm' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import pytest
import torch

from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.catalog import check_inflation
from inflate3d.models.encoders import create_encoder

SMALL = {"embed_dim": 12, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 3, 4)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(**arguments):
    return create_encoder("videoswint", weights=None, arguments=SMALL, **arguments).eval()


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "tokens", "center"), [(1, 1, 0), (3, 2, 0), (5, 3, 1), (7, 4, 1), (21, 11, 5)])
def test_maps_are_those_of_the_depth_that_holds_the_center_slice(depth, tokens, center):
    encoder = small(depth=depth, in_channels=2, image_size=(64, 96))
    seen = []
    encoder.get_submodule("network.features.6").register_forward_hook(lambda *call: seen.append(call[2]))

    with torch.no_grad():
        maps = encoder(torch.randn(2, 2, depth, 64, 96))

    assert [tuple(features.shape) for features in maps] == [
        (2, 12 * 2**stage, 64 // stride, 96 // stride) for stage, stride in enumerate((4, 8, 16, 32))
    ]
    assert encoder.strides == (4, 8, 16, 32)
    assert seen[0].shape[1] == tokens
    torch.testing.assert_close(maps[3], seen[0][:, center].permute(0, 3, 1, 2))


def test_center_looks_at_far_slices():
    encoder = small(depth=9, image_size=64)
    windows = torch.randn(1, 1, 9, 64, 64)
    other = windows.clone()
    other[:, :, 0] += 1

    with torch.no_grad():
        assert not torch.equal(encoder(windows)[0], encoder(other)[0])


@pytest.mark.slow
def test_repeats_the_original_of_a_gray_clip():
    """The identity that holds: over modalities and RGB, not over slices."""
    report = check_inflation("videoswint", depth=3, in_channels=3, image_size=32)

    assert set(report.errors) == {"center", "average"}
    assert max(report.errors.values()) < 5e-5


def test_chosen_stages_are_given_and_no_more_are_built():
    encoder = small(image_size=64, levels=(0, 2))

    assert (encoder.channels, encoder.strides) == ((12, 48), (4, 16))
    assert not any(name.startswith("network.features.5") for name in encoder.state_dict())


def test_indices_stay_out_of_model_files():
    assert all(tensor.is_floating_point() for tensor in small(image_size=64).state_dict().values())


def test_training_reaches_every_weight():
    encoder = small(depth=3, image_size=64).train()

    torch.stack([features.square().sum() for features in encoder(torch.randn(1, 1, 3, 64, 64))]).sum().backward()

    assert [name for name, weight in encoder.named_parameters() if weight.grad is None] == []


def test_scaling_is_that_of_imagenet():
    assert small(image_size=64).mean == pytest.approx((0.485 + 0.456 + 0.406) / 3)


def test_size_that_no_stride_divides_is_refused():
    with pytest.raises(ConfigError) as caught:
        small(image_size=100)
    assert caught.value.expected == "96 x 96 or 128 x 128"


def test_levels_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="ascending numbers from 0 to 3"):
        small(levels=(0, 4))


def test_unknown_argument_is_refused():
    with pytest.raises(ModelError, match="no such arguments") as caught:
        create_encoder("videoswint", weights=None, arguments={"width": 3})
    assert caught.value.got == "width"

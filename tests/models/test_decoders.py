"""What holds of every decoder."""

import math

import pytest
import torch
from torch import Tensor, nn

from inflate3d import config
from inflate3d.errors import ConfigError
from inflate3d.models.architecture import Architecture
from inflate3d.models.decoders import DECODERS, build_decoder, default_widths
from inflate3d.models.decoders.progressive import ConvTranspose, SetrPup
from inflate3d.models.encoders import Encoder, create_encoder
from inflate3d.models.segmenter import Segmenter, create_model, load_model

EVERY = pytest.mark.parametrize("name", DECODERS)
MAPS = [  # channels, strides, image size
    ((8, 8, 8, 8), (16, 16, 16, 16), (48, 80)),
    ((6, 6, 6, 6), (14, 14, 14, 14), (42, 70)),
    ((4, 6, 8, 10), (4, 8, 16, 32), (64, 96)),
    ((4, 6, 8, 10), (4, 8, 16, 32), (50, 77)),  # maps are rounded up
    ((6, 8, 10), (16, 32, 64), (128, 192)),
    ((8,), (16,), (32, 48)),
]
EVERY_MAPS = pytest.mark.parametrize(("channels", "strides", "size"), MAPS, ids=str)


class RandomMaps(Encoder):
    """Gives random maps of any shape, as an encoder would."""

    def __init__(self, channels, strides):
        nn.Module.__init__(self)
        self.channels, self.strides, self.in_channels, self.depth = channels, strides, 2, 3

    def forward(self, windows: Tensor) -> list[Tensor]:
        height, width = windows.shape[-2:]
        return [
            torch.randn(len(windows), c, math.ceil(height / s), math.ceil(width / s))
            for c, s in zip(self.channels, self.strides, strict=True)
        ]


def make_model(name, channels, strides, size, num_classes=5) -> Segmenter:
    architecture = Architecture(
        encoder="none",
        depth=3,
        in_channels=2,
        image_size=size,
        inflation="center",
        levels=None,
        decoder=name,
        decoder_channels=16,
        detail_channels=4 if name == "fpn-lite" else 0,
        num_classes=num_classes,
        input_mean=0,
        input_std=1,
    )
    return Segmenter(RandomMaps(channels, strides), architecture)


def test_the_options_name_every_decoder():
    assert tuple(DECODERS) == config.DECODERS


@EVERY
@EVERY_MAPS
def test_any_maps_any_size_any_class_count(name, channels, strides, size):
    model = make_model(name, channels, strides, size)
    windows = torch.rand(2, 2, 3, *size)
    logits = model(windows)
    assert logits.shape == (2, 5, *size)
    logits.square().mean().backward()
    assert [path for path, weight in model.named_parameters() if weight.grad is None] == []
    assert model.eval()(windows[:1]).shape == (1, 5, *size)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize(("encoder", "detail"), [("test_vit", 0), ("resnet10t", 4)])
def test_trains_saves_and_loads_behind_an_encoder(name, encoder, detail, tmp_path):
    backbone = create_encoder(encoder, depth=3, in_channels=2, image_size=(64, 96), weights="none")
    model = create_model(encoder=backbone, num_classes=3, decoder=name, decoder_channels=16, detail_channels=detail)
    windows = torch.rand(2, 2, 3, 64, 96)
    model(windows).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    model.eval().save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.architecture == model.architecture
    assert torch.equal(loaded(windows), model(windows))


@EVERY
def test_bfloat16(name):
    model = make_model(name, (8,) * 4, (16,) * 4, (48, 80))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(2, 2, 3, 48, 80))
    assert logits.isfinite().all()
    logits.float().mean().backward()


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("strides", [(16, 16, 16, 16), (4, 8, 16, 32)], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_exports(name, strides):
    decoder = build_decoder(name, (8,) * 4, strides, in_channels=2, width=16).eval()
    maps = [torch.randn(1, 8, 96 // stride, 64 // stride) for stride in strides]
    windows = torch.rand(1, 2, 3, 96, 64)
    exported = torch.export.export(decoder, (maps, windows)).module()
    torch.testing.assert_close(exported(maps, windows), decoder(maps, windows))


def test_widths_of_the_paper():
    plain, hierarchical = ((768,) * 4, (16,) * 4), ((128, 256, 512, 1024), (4, 8, 16, 32))
    assert default_widths("upernet", *plain) == (768, 0)
    assert default_widths("upernet", *hierarchical) == (512, 0)
    assert default_widths("fpn-lite", *plain) == default_widths("fpn-lite", *hierarchical) == (128, 16)


@pytest.mark.parametrize("name", ["setr-pup", "conv-transpose", "unetr"])
def test_an_image_of_one_token_is_refused(name):
    encoder = create_encoder("test_vit", image_size=16, weights="none")
    with pytest.raises(ConfigError, match=f"too small for the decoder {name}"):
        create_model(encoder=encoder, num_classes=2, decoder=name)


@pytest.mark.parametrize("strides", [(4, 8, 8), (4, 4), (2, 2, 2)])
def test_maps_that_unetr_has_no_level_for(strides):
    if strides == (4, 4):
        build_decoder("unetr", (8,) * 2, strides, in_channels=1, width=16)  # doubled to strides 2 and 4
        return
    with pytest.raises(ConfigError, match="unetr can't join") as caught:
        build_decoder("unetr", (8,) * len(strides), strides, in_channels=1, width=16)
    assert caught.value.got == f"strides {', '.join(map(str, strides))}"


@pytest.mark.parametrize(("stride", "stages"), [(16, 4), (32, 5), (14, 4), (8, 3)])
def test_progressive_decoders_have_a_stage_for_every_doubling(stride, stages):
    assert len(SetrPup((8,), (stride,), width=8).stages) == stages
    assert len(ConvTranspose((8,), (stride,), width=8).stages) == stages - 1  # the classifier is the last


def test_transposed_convolutions_reach_every_pixel_alone():
    """No tokens mix: one token of the map moves its own 16 x 16 pixels, but for the normalization's statistics."""
    decoder = ConvTranspose((8,), (16,), width=8)
    classifier = decoder.classifier(2)
    windows = torch.zeros(1, 1, 1, 64, 64)
    feature = torch.randn(1, 8, 4, 4)
    swapped = feature.flip(-1)
    first, second = (classifier(decoder([maps], windows)) for maps in (feature, swapped))
    blocks = [logits.unflatten(-1, (4, 16)) for logits in (first, second)]
    torch.testing.assert_close(blocks[0], blocks[1].flip(-2))


def test_unetr_sees_the_slices_round_the_center():
    decoder = build_decoder("unetr", (8,) * 4, (16,) * 4, in_channels=1, width=16).eval()
    windows = torch.rand(1, 1, 5, 32, 32, requires_grad=True)
    maps = [torch.randn(1, 8, 2, 2) for _ in range(4)]
    (decoder(maps, windows) * torch.rand(32, 32)).sum().backward()
    assert windows.grad is not None
    assert (windows.grad.abs().amax((0, 1, 3, 4)) > 0).all()

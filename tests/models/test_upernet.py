import pytest
import torch

from inflate3d.models.decoders.decoder import resize
from inflate3d.models.decoders.upernet import PyramidPooling, UPerNet, build_pyramid
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model

ENCODERS = [  # name, image size
    ("test_vit", (48, 80)),
    ("vit_tiny_patch16_224", (32, 64)),
    ("vit_small_patch14_dinov2", (42, 56)),
    ("resnet10t", (64, 96)),
    ("swin_tiny_patch4_window7_224", (64, 32)),
    ("levit_128s", (64, 64)),  # three maps
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), ENCODERS, ids=str)
@pytest.mark.parametrize(("classes", "detail"), [(2, 4), (5, 0)])
def test_any_encoder_size_and_class_count(name, size, classes, detail):
    encoder = create_encoder(name, depth=3, in_channels=2, image_size=size, weights="none")
    model = create_model(encoder=encoder, num_classes=classes, decoder_channels=8, detail_channels=detail)
    logits = model(torch.rand(2, 2, 3, *size))
    assert logits.shape == (2, classes, *size)
    logits.sum().backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None and "encoder" not in name]
    assert idle == []


@pytest.mark.parametrize(
    ("channels", "strides", "sides", "finest"),
    [
        ((8, 8, 8, 8), (16, 16, 16, 16), [32, 16, 8, 4], 4),
        ((8, 8, 8), (16, 16, 16), [16, 8, 4], 8),
        ((8, 8), (16, 16), [8, 4], 16),
        ((8,), (16,), [8], 16),
        ((4, 6, 8), (4, 8, 16), [32, 16, 8], 4),
    ],
)
def test_pyramid_levels_of_a_128_pixel_image(channels, strides, sides, finest):
    layers, stride = build_pyramid(channels, strides)
    maps = [torch.rand(2, c, 128 // s, 128 // s) for c, s in zip(channels, strides, strict=True)]
    levels = [layer(feature) for layer, feature in zip(layers, maps, strict=True)]
    assert [tuple(level.shape[1:]) for level in levels] == [(c, n, n) for c, n in zip(channels, sides, strict=True)]
    assert stride == finest
    decoder = UPerNet(channels, strides, width=8)
    assert decoder(maps, torch.zeros(2, 1, 1, 128, 128)).shape == (2, 8, 128 // finest, 128 // finest)
    assert (decoder.channels, decoder.stride) == (8, finest)


def test_odd_sides_go_through():
    maps = [torch.rand(2, 8, 3, 5) for _ in range(4)]
    assert UPerNet((8,) * 4, (14,) * 4, width=8)(maps, torch.zeros(2, 1, 1, 42, 70)).shape == (2, 8, 12, 20)


@pytest.mark.parametrize("size", [(6, 4), (7, 9), (37, 5), (1, 1)], ids=str)
def test_the_halved_level_covers_the_field_of_its_map(size):
    """A map that is flipped gives the flipped level: nothing is shifted toward an edge."""
    *_, half = build_pyramid((8,) * 4, (14,) * 4)[0]
    feature = torch.randn(1, 8, *size)
    level = half(feature)
    assert level.shape[2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(half(feature.flip(-1, -2)), level.flip(-1, -2))


def test_a_structure_on_an_odd_map_stays_in_its_place():
    """A bump on 37 tokens, halved and brought back, is where it was to half a token, at the far edge, too."""
    *_, half = build_pyramid((1,) * 4, (14,) * 4)[0]
    tokens = torch.arange(37.0)
    for place in (2, 18, 34):
        bump = torch.exp(-((tokens - place) ** 2) / 4)
        back = resize(half(bump.expand(1, 1, 37, 37)), (37, 37))[0, 0, 0]
        assert (back * tokens).sum() / back.sum() == pytest.approx(place, abs=0.5)


def test_the_whole_map_in_one_pixel_says_what_is_on_it():
    """Also in a batch of two and at the smallest width: a norm over them alone would leave signs."""
    torch.manual_seed(0)
    pooling = PyramidPooling(8, 8)
    maps = torch.randn(2, 8, 4, 12)
    pooled = pooling.branches[0](maps.mean((2, 3), keepdim=True))
    assert pooled.unique().numel() > 8
    torch.testing.assert_close(pooling.branches[0](maps)[:1], pooling.branches[0](maps[:1]))
    assert pooling(maps[..., :3, :5]).shape == (2, 8, 3, 5)

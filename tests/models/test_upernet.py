import pytest
import torch

from inflate3d.models.decoders.upernet import UPerNet, build_pyramid
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

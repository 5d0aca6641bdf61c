"""Gives a 2D backbone a third dimension, and shows that center inflation leaves what it computes as it was.

Run it with the name of any backbone that `inflate3d encoders` lists:

    python examples/inflate_a_backbone.py swin_tiny_patch4_window7_224
"""

import sys

import torch

import inflate3d as i3d


def main(name: str) -> None:
    report = i3d.check_inflation(name, depth=5, in_channels=1)
    for method, error in report.errors.items():
        print(f"{method}: feature maps repeat the 2D backbone's to a relative {error:.1e}")

    encoder = i3d.create_encoder(name, depth=5, in_channels=1, image_size=report.image_size, weights=None)
    windows = torch.rand(2, 1, 5, *report.image_size)  # batch, modality, slice, row, column
    for stride, features in zip(encoder.strides, encoder(windows), strict=True):
        print(f"stride {stride}: {tuple(features.shape)}")

    model = i3d.create_model(encoder=encoder, num_classes=14)
    print(f"logits of the center slices: {tuple(model(windows).shape)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "resnet10t")

"""What a 3D network is built from."""

from __future__ import annotations

from typing import Literal

from inflate3d.settings import FrozenModel

Volumetric = Literal["unetr", "swin-unetr", "segresnet", "dynunet"]


class VolumetricArchitecture(FrozenModel):
    """All that is needed to build a 3D network anew, without its weights.

    Attributes:
        network: Its kind.
        patch_size: Slices, rows and columns of what it sees.
        width: Channels of its first level.
        kernels: Of each level of nnU-Net's network; none for others.
        strides: The same.
    """

    network: Volumetric
    in_channels: int
    num_classes: int
    patch_size: tuple[int, int, int]
    width: int
    kernels: tuple[tuple[int, int, int], ...] = ()
    strides: tuple[tuple[int, int, int], ...] = ()

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of a patch."""
        return self.patch_size[1:]

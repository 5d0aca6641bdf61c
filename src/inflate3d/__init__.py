"""inflate3d gives 2D pre-trained vision backbones a third dimension, for 3D medical image segmentation."""

__version__ = "0.1.0"

"""2D backbones to 3D segmentation networks."""

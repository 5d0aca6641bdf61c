"""3D segmentation networks from 2D backbones."""

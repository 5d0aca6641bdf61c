"""Predefined settings: one YAML file per dataset of the paper, and ``auto``."""

from inflate3d.presets.preset import Preset, preset_names, read_preset

__all__ = ["Preset", "preset_names", "read_preset"]

"""The annotation server: scans, label maps by version, predictions and trainings, over MONAI Label's REST protocol."""

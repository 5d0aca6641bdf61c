"""DICOM: series of images to volumes, and label maps to and from the objects that refer to them."""

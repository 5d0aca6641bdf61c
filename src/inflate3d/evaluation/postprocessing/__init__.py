"""Post-processing of label maps: what can be done, what it would gain, and which of it is worth doing."""

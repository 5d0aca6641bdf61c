"""Post-processing of label maps: the steps, what they gain, and the choice among them."""

"""Where a model comes from: the record of its run, whether it can be made again, and its card."""

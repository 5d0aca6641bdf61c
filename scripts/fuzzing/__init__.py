"""Mutated files for our readers: seeds, mutations, readers, and a sandbox to run them in."""

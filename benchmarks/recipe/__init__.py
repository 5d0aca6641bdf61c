"""What the paper's own implementation does, stage by stage, written anew: the baselines of the benchmarks."""

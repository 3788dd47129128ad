"""Training: cross-entropy, self-critical sequence training, its rewards and baselines."""

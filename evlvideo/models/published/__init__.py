"""Published checkpoints of EVLGen and of the baselines, converted into ours and back."""

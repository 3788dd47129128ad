"""What is wrong with a checkpoint: its weights, and what its connector makes of different clips."""

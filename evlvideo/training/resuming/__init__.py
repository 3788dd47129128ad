"""Resuming a run: the checkpoint that it goes on from, what may change, and what a checkpoint keeps for it."""

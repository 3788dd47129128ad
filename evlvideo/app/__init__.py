"""A page to try checkpoints on: captions, answers, and what is inside."""

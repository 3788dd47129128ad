"""Build a run's clips, datasets and models from its config."""

"""From a run's config to its clips, datasets and models."""

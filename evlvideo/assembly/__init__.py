"""From a run's config to its clips, data sets and models."""

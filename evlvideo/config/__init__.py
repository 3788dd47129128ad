"""A run's config: every key with its default, bounds and a sentence, and loading from YAML."""

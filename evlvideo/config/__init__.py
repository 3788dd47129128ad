"""A run's configuration: every key with its default, its bounds and a sentence, and how YAML becomes one."""

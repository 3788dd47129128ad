"""Baselines: other video-text models, which caption clips with their own processors."""

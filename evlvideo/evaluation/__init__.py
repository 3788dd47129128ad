"""Evaluation: from a run, a file of captions or people's own captions to scores."""

"""Recipes: the stages of one training, each a run."""

"""Recipes: training in stages, in one YAML."""

"""Connectors, which turn vision tokens into soft tokens: one file for each, with its options."""

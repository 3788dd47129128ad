"""Comparison: many systems in one table and one page."""

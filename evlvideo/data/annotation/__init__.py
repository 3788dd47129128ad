"""Annotations: which clips a data set has, and their captions."""

"""Captions of many files: what is captioned, how the work goes on, and what comes out."""

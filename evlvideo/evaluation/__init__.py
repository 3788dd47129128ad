"""Scoring of captions: tokenisation, metrics, result files, and captioning of a whole split."""

"""Scores retrieval from feature files, against the lists of a dataset."""

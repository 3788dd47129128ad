"""Annotations: the clips of each dataset and split, and their captions."""

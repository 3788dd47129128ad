"""Captioning: the pipeline from clips to captions, and those who run it."""

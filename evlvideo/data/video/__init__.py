"""Video files: index their frames, sample some, and decode them."""

"""Video files: index, sample and decode their frames."""

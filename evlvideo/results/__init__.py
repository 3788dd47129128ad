"""Files of runs and results: run directories, predictions, references, scores, and their provenance."""

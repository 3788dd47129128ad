"""Training: by cross-entropy, and what both stages share."""

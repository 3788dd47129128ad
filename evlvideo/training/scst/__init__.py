"""Self-critical sequence training: captions are sampled, scored, and made more or less likely."""

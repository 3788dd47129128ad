"""Retrieval between images (or clips) and texts: ranks, recalls, intervals and re-ranking."""

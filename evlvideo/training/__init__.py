"""Trains by cross-entropy, and holds what both stages share."""

"""Trains BLIP-2's first stage."""

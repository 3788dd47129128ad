"""Sweeps: one key over several values."""

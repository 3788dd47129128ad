"""Keeps the better captions of a file: those that match their image, or that other samples agree with."""

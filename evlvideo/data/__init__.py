"""Clips and captions: from annotations and files to batches."""

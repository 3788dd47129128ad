"""Inference: one pipeline over batches of clips, for captioning, feature extraction and baselines."""

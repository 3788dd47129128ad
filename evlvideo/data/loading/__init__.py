"""Datasets for training and captioning: clips, shards and features to items and batches."""

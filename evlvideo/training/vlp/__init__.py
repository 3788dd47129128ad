"""Pre-training of a vision-language model: its batches, its trainer and its validation."""

"""Pre-training of a vision-language model: its losses, its queue, its teacher, and what guides pruning."""

"""Pre-training of a vision-language model: its losses, its queue and momentum, and the models that it trains."""

"""The captioner, from its pure parts (merging, contextualizers) to the transformers model."""

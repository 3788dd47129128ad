"""Tokenizers of captions: Stanford's PTB tokenizer, a light one without Java, and one by characters."""

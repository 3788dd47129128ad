"""Tokenizers of captions: Stanford's PTB tokenizer, which needs Java, and a light one that follows its conventions."""

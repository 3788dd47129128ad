"""Training that is validated by answers to questions."""

"""Questions of each dataset and split: facts, readers, and files of answers."""

"""One run for each value of a key, and what the value costs and gains: the poster's third figure."""

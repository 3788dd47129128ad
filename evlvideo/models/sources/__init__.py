"""Where the weights of a vision tower come from, and what their source says of the tower that they were trained in."""

"""Where the weights of towers come from, and what their source says of whether and how they can serve."""

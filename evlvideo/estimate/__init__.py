"""What a run will cost, from its architecture alone: no weights are read, and nothing is computed."""

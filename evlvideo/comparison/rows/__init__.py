"""The rows of a comparison: which systems there are, and what each was scored on."""

"""Caption metrics, what they are counted from, and how certain they are."""

"""Vision towers block by block: how families of ViTs begin, and how tokens are pruned on the way."""

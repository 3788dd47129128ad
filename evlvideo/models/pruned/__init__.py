"""Vision towers whose tokens are pruned between blocks: the loop, and what it needs of each family of towers."""

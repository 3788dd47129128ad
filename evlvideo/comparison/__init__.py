"""One table and one page in which systems stand beside each other, scored the same way."""

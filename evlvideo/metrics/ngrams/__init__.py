"""N-grams as numbers: tables of ids, and the counts of references in them."""

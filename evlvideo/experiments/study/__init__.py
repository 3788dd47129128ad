"""Studies: runs trained with several seeds and compared by their means."""

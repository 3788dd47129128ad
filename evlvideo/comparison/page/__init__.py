"""The page of a comparison: clips, curves and pictures as one HTML file."""

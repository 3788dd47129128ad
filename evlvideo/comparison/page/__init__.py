"""The page of a comparison: clips, curves and images as one HTML file."""

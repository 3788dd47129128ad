"""Video-text models of others, captioning clips by their own processors."""

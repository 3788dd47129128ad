"""Statements about images, each with its truth: visual entailment (SNLI-VE) and pairs of images (NLVR2)."""

"""BLIP-2's first stage: a Q-Former learns, with a text branch, which images and texts belong together."""

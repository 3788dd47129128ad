"""Converts published checkpoints of EVLGen and of the compared connectors, and exports EVLGen's."""

"""Connectors beside the TomeFormer, for comparisons: one file a system, all behind :class:`~.base.Connector`."""

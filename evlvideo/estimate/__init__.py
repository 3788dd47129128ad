"""What a run will cost, from its architecture alone: no weights are read, and nothing is computed."""

from evlvideo.estimate.costs import estimate
from evlvideo.estimate.records import ByPart, Estimate, Memory, Workload
from evlvideo.estimate.table import estimate_table

__all__ = ["ByPart", "Estimate", "Memory", "Workload", "estimate", "estimate_table"]

"""Runs of linear layers become one: reading a run as affine maps, exact products and sums of them, and writing it anew.

`fuse_linear` and `effective_depth` are the doors. Everything works on captured runs, never on module classes.
"""

from eitherway.linear.fuse.depth import Depth, Run
from eitherway.linear.fuse.fuse import Fused, effective_depth, fuse_linear
from eitherway.linear.fuse.report import Merge, Refusal, Report

__all__ = ["Depth", "Fused", "Merge", "Refusal", "Report", "Run", "effective_depth", "fuse_linear"]

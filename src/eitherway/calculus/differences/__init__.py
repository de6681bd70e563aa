"""Derivatives from values alone: differences with steps that know the noise, and estimates by random directions.

Nothing here asks autograd. `estimate` is the door; `ladder` chooses steps and bars, `noise` measures how noisy f is.
"""

from eitherway.calculus.differences.estimate import Estimate, estimate

__all__ = ["Estimate", "estimate"]

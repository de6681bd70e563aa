"""What a way to a Jacobian is expected to take, in one unit, so that ways can be compared before any has run."""

from __future__ import annotations

from dataclasses import dataclass

GEMM = 2.0e-11
"""Seconds a multiply-add takes inside a large product on one core: 25 to 50 GFLOP/s and more."""
TOUCH = 1.6e-10
"""Seconds to read or write one element of a large tensor: eight multiply-adds."""
CALL = 6.0e-6
"""Seconds a call of an operation takes whatever its size, from Python."""


@dataclass(frozen=True)
class Cost:
    """Work of one evaluation, and the memory it needs at its highest point.

    Only ratios of `seconds` mean anything: the constants are those of one ordinary core, and where two ways come close
    both are timed.
    """

    products: float = 0.0
    """Multiply-adds."""
    elements: float = 0.0
    """Elements read and written outside products."""
    calls: float = 0.0
    """Operations called from Python; torch.func's transforms count several each."""
    peak: float = 0.0
    """Bytes held at once, the answer included."""

    @property
    def seconds(self) -> float:
        return self.products * GEMM + self.elements * TOUCH + self.calls * CALL

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(
            self.products + other.products,
            self.elements + other.elements,
            self.calls + other.calls,
            max(self.peak, other.peak),
        )

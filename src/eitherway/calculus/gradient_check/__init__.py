"""Autograd's derivative held against differences, entry by entry, with blame for what is wrong."""

from eitherway.calculus.gradient_check.check import gradient_check
from eitherway.calculus.gradient_check.report import Blame, Checked, GradientCheck

__all__ = ["Blame", "Checked", "GradientCheck", "gradient_check"]

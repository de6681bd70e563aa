"""Autograd's derivative held against differences, entry by entry, with blame for what is wrong.

Here the two are compared and the report is written; how slopes and their bars come from values is `differences`.
"""

from eitherway.calculus.gradient_check.check import gradient_check
from eitherway.calculus.gradient_check.report import Blame, Checked, GradientCheck

__all__ = ["Blame", "Checked", "GradientCheck", "gradient_check"]

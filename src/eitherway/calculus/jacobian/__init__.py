"""The Jacobian of a function or module: the door, the plan behind it, and the choice among the ways that are open.

The two ways of our own, `calculus.chain` and `calculus.sparse`, stand beside this folder; torch's two are in `ways`.
"""

from eitherway.calculus.jacobian.check import JacobianWarning
from eitherway.calculus.jacobian.door import jacobian, prepare_jacobian
from eitherway.calculus.jacobian.operator import JacobianOperator
from eitherway.calculus.jacobian.plan import JacobianPlan

__all__ = ["JacobianOperator", "JacobianPlan", "JacobianWarning", "jacobian", "prepare_jacobian"]

"""Derivatives: Jacobians, the chain rule made visible, gradient checks, and derivatives estimated from values alone.

Each folder is one of these; `accept` stands at the door of all of them, and `cost` prices ways to a Jacobian. Nothing
here knows what a method or a run is, and nothing here imports linear maps. Nothing is imported until it is used.
"""

from typing import TYPE_CHECKING

from eitherway.base.lazy import lazy

if TYPE_CHECKING:
    from eitherway.calculus.chain_rule import ChainRule as ChainRule
    from eitherway.calculus.differences import Estimate as Estimate
    from eitherway.calculus.differences import estimate as estimate
    from eitherway.calculus.gradient_check import GradientCheck as GradientCheck
    from eitherway.calculus.jacobian import JacobianOperator as JacobianOperator
    from eitherway.calculus.jacobian import JacobianPlan as JacobianPlan
    from eitherway.calculus.jacobian import JacobianWarning as JacobianWarning

_WHERE = {
    "ChainRule": "eitherway.calculus.chain_rule",
    "estimate": "eitherway.calculus.differences",
    "Estimate": "eitherway.calculus.differences",
    "GradientCheck": "eitherway.calculus.gradient_check",
    "JacobianOperator": "eitherway.calculus.jacobian",
    "JacobianPlan": "eitherway.calculus.jacobian",
    "JacobianWarning": "eitherway.calculus.jacobian",
}

__all__ = [*_WHERE]  # pyright: ignore[reportUnsupportedDunderAll] - the doors themselves are at the top: ew.jacobian
__getattr__, __dir__ = lazy(__name__, _WHERE)

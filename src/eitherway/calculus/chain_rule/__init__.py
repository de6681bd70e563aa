"""The chain rule made visible: the derivative of C(G(w)) as links with names, factors, running products and checks.

For explaining, not for speed: fast Jacobians by the same rule are `calculus.chain`.
"""

from eitherway.calculus.chain_rule.door import ChainRule, chain_rule
from eitherway.calculus.chain_rule.links import Link, Wrong

__all__ = ["ChainRule", "Link", "Wrong", "chain_rule"]

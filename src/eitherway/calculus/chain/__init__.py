"""The chain way to a Jacobian: local Jacobians with their structure, multiplied in the cheapest order.

A captured run is planned, priced and evaluated here. Nothing here chooses between ways, and nothing here explains:
links with names and checks are `calculus.chain_rule`.
"""

from eitherway.calculus.chain.chain import Chain, prepare

__all__ = ["Chain", "prepare"]

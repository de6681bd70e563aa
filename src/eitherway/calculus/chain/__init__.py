"""The chain way to a Jacobian: local Jacobians with their structure, multiplied in the cheapest order."""

from eitherway.calculus.chain.chain import Chain, prepare

__all__ = ["Chain", "prepare"]

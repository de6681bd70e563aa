"""Derivatives: Jacobians, the chain rule made visible, and derivatives estimated from values alone.

Nothing here knows what a method or a run is, and nothing here imports linear maps.
"""

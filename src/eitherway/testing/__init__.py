"""For whoever writes a method: the laws that every method obeys, as one call. It knows none by name."""

from eitherway.testing.laws import LAWS, check_method, costs, drive, spaces

__all__ = ["LAWS", "check_method", "costs", "drive", "spaces"]

"""Eitherway makes anything learn, with gradients where they exist and without them where they do not.

Only the public names live here, and where to find each. Nothing is imported until it is used: `import eitherway` loads
neither torch, NumPy nor matplotlib, and neither does minimising a plain Python cost load torch.
"""

from typing import TYPE_CHECKING

from eitherway.base.lazy import lazy

if TYPE_CHECKING:
    from eitherway import bicycle as bicycle
    from eitherway import calculus as calculus
    from eitherway import functions as functions
    from eitherway import linear as linear
    from eitherway import methods as methods
    from eitherway import rl as rl
    from eitherway import signal as signal
    from eitherway import testing as testing
    from eitherway.base.errors import CostError as CostError
    from eitherway.base.errors import EitherwayError as EitherwayError
    from eitherway.base.errors import Failed as Failed
    from eitherway.base.errors import JournalError as JournalError
    from eitherway.base.errors import MethodError as MethodError
    from eitherway.base.errors import ModelError as ModelError
    from eitherway.base.errors import SpaceError as SpaceError
    from eitherway.base.keys import Key as Key
    from eitherway.calculus.chain_rule import chain_rule as chain_rule
    from eitherway.calculus.gradient_check import gradient_check as gradient_check
    from eitherway.calculus.jacobian import jacobian as jacobian
    from eitherway.calculus.jacobian import prepare_jacobian as prepare_jacobian
    from eitherway.linear.affine import is_linear as is_linear
    from eitherway.linear.fuse import fuse_linear as fuse_linear
    from eitherway.run.command import command as command
    from eitherway.run.minimize import iterate as iterate
    from eitherway.run.minimize import maximize as maximize
    from eitherway.run.minimize import minimize as minimize
    from eitherway.run.minimize import resume as resume
    from eitherway.run.problem import Outcome as Outcome
    from eitherway.run.problem import batched as batched
    from eitherway.run.problem import seeded as seeded
    from eitherway.run.result import Result as Result
    from eitherway.run.search import Search as Search
    from eitherway.signal.diagnose import diagnose as diagnose
    from eitherway.signal.gain import calculate_gain as calculate_gain
    from eitherway.signal.initialize import initialize_ as initialize_
    from eitherway.space.space import Space as Space
    from eitherway.space.variables import Array as Array
    from eitherway.space.variables import Choice as Choice
    from eitherway.space.variables import Integer as Integer
    from eitherway.space.variables import Real as Real

__version__ = "0.1.0"

_WHERE = {
    # any cost
    "minimize": "eitherway.run.minimize",
    "maximize": "eitherway.run.minimize",
    "iterate": "eitherway.run.minimize",
    "resume": "eitherway.run.minimize",
    "Search": "eitherway.run.search",
    "Result": "eitherway.run.result",
    # what may vary
    "Space": "eitherway.space.space",
    "Real": "eitherway.space.variables",
    "Integer": "eitherway.space.variables",
    "Choice": "eitherway.space.variables",
    "Array": "eitherway.space.variables",
    # what a cost may be and do
    "batched": "eitherway.run.problem",
    "seeded": "eitherway.run.problem",
    "Outcome": "eitherway.run.problem",
    "command": "eitherway.run.command",
    "Failed": "eitherway.base.errors",
    # calculus and linear maps
    "jacobian": "eitherway.calculus.jacobian",
    "prepare_jacobian": "eitherway.calculus.jacobian",
    "chain_rule": "eitherway.calculus.chain_rule",
    "gradient_check": "eitherway.calculus.gradient_check",
    "is_linear": "eitherway.linear.affine",
    "fuse_linear": "eitherway.linear.fuse",
    # networks
    "initialize_": "eitherway.signal.initialize",
    "diagnose": "eitherway.signal.diagnose",
    "calculate_gain": "eitherway.signal.gain",
    # what can go wrong
    "EitherwayError": "eitherway.base.errors",
    "SpaceError": "eitherway.base.errors",
    "CostError": "eitherway.base.errors",
    "MethodError": "eitherway.base.errors",
    "ModelError": "eitherway.base.errors",
    "JournalError": "eitherway.base.errors",
    # randomness
    "Key": "eitherway.base.keys",
}
_SUBMODULES = ("methods", "functions", "calculus", "linear", "signal", "testing", "rl", "bicycle")

__all__ = [*_WHERE, *_SUBMODULES]  # pyright: ignore[reportUnsupportedDunderAll] - docs/names.md has the same list
__getattr__, __dir__ = lazy(__name__, _WHERE, submodules=_SUBMODULES, known="docs/names.md lists the public names")

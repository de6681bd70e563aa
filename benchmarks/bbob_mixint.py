"""bbob-mixint: the same for costs whose variables are four fifths whole numbers.

python -m benchmarks.bbob_mixint --instances 6-10 --publish
"""

from benchmarks import harness

harness.one_thread()

from benchmarks import experiment, ours, rivals_mixed  # noqa: E402 - after the threads are limited

CMA = ("cmaes CatCMAwM", "cmaes CMAwM", "pycma integer")

MATCHED = {
    "RandomSearch": ("random",),
    "GA": ("pymoo MixedVariableGA",),
    "DE": ("scipy DE integrality",),
    "CMAES": CMA,
    "Auto": CMA,
}

SUITE = experiment.Suite(
    name="bbob-mixint",
    rivals=rivals_mixed.RIVALS | rivals_mixed.SLOW_RIVALS,
    ours={name: ours.solver(name) for name in ours.MIXED},
    matched=MATCHED,
    dimensions=(5, 10),
    slow=tuple(rivals_mixed.SLOW_RIVALS),
)

TEXT = """\
24 functions of COCO's bbob-mixint suite: of five variables one is real, the others whole numbers with 2, 4, 8 and 16
values. Scores as in bbob. Integers cannot be shifted, so the optimum keeps its place among them; everybody starts
uniformly."""

if __name__ == "__main__":
    experiment.main(SUITE, "bbob-mixint, small budgets", TEXT)

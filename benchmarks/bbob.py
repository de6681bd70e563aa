"""bbob: how fast a cost of 2 to 10 reals comes down within 200 D evaluations, beside the rivals.

python -m benchmarks.bbob --instances 6-10 --publish
"""

from benchmarks import harness

harness.one_thread()

from benchmarks import experiment, ours, rivals  # noqa: E402 - after the threads are limited

MATCHED = {
    "RandomSearch": ("random",),
    "GA": ("pymoo GA",),
    "PSO": ("pymoo PSO", "pyswarms", "minion SPSO2011"),
    "DE": ("scipy DE", "pymoo DE", "minion jSO", "minion ARRDE"),
    "CMAES": ("pycma", "cmaes", "minion BIPOP-aCMAES"),
    "SQP": ("scipy SLSQP", "scipy L-BFGS-B"),
    "Auto": ("scipy SLSQP",),
}

SUITE = experiment.Suite(
    name="bbob",
    rivals=rivals.RIVALS,
    ours={name: ours.solver(name) for name in ours.METHODS},
    matched=MATCHED,
    dimensions=(2, 3, 5, 10),
)

TEXT = """\
24 functions of COCO's bbob suite. *anytime* is the area under the share of (function, instance, target) triples solved,
over log10(evaluations / D) from 0 to log10(200); *end* is the share solved when the budget is spent; *us* is CPU
microseconds an evaluation, cost included. Everybody starts uniformly in the box; who returns early starts again on what
is left, with a new seed. Ratios are of mean anytime scores over the same cells; intervals are a paired bootstrap over
the cells."""

if __name__ == "__main__":
    experiment.main(SUITE, "bbob, small budgets", TEXT)

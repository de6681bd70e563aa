"""Trains the policies that come with the package, and says on how many unseen roads they ride.

python tools/train_policy.py             all three tasks, into src/eitherway/bicycle/trained/
python tools/train_policy.py --check     only rides the policies that are there
"""

import argparse
from dataclasses import replace

import numpy as np

from eitherway.bicycle import save_policy
from eitherway.bicycle.learning import Rider
from eitherway.bicycle.race import TRAINED, Heat, conditions, train, trained


def say(heat: Heat) -> None:
    roads = f"{heat.runners:3d} runners, {heat.roads:4d} roads each"
    print(f"  {roads}: the best held {heat.held} of {heat.of} rides", flush=True)


def check(task: str) -> None:
    """Whole rides on roads 0, 1, 2, ...: as published, rougher, and with the other sign."""
    weights, _ = trained(task)  # type: ignore[arg-type]
    rider = Rider(task)  # type: ignore[arg-type]
    cases = [(rider, 1000), *((other, 100) for other in conditions(rider))]
    if task != "whipple":
        cases.append((replace(rider, gyro="skew"), 100))
    for case, roads in cases:
        rides = case.ride(weights, np.arange(roads))
        held = rides.cause == case.held
        path = f", {rides.path_m[held].mean():.0f} m on average" if task == "goal" and held.any() else ""
        print(f"{task}, noise {100 * case.noise:.0f} cm, gyro {case.gyro}: {held.sum()} of {roads}{path}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tasks", nargs="+", default=["balance", "goal", "whipple"])
    parser.add_argument("--runners", type=int, default=16)
    parser.add_argument("--roads", type=int, default=8)
    options = parser.parse_args()
    for task in options.tasks:
        if not options.check:
            print(f"{task}: {options.runners} learn at double noise, then race", flush=True)
            weights, facts = train(task, runners=options.runners, roads=options.roads, heard=say)
            TRAINED.mkdir(exist_ok=True)
            save_policy(TRAINED / f"{task}.safetensors", Rider(task).rule, weights, task=task, **facts)
        check(task)


if __name__ == "__main__":
    main()

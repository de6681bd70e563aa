"""Costs at the top of a module, so that workers find them."""

import os
import random
import time

import numpy as np

import eitherway as ew


def bowl(x):
    return float((x * x).sum())


def slow_bowl(x):
    time.sleep(0.01)
    return bowl(x)


def hangs(x):
    if x[0] > 0:
        time.sleep(60)
    return bowl(x)


def kills_its_worker(x):
    if x[0] > 0.5:
        os._exit(9)
    return bowl(x)


def draws_globally(x):
    return bowl(x) + random.random()


@ew.seeded
def noisy(x, seed):
    return bowl(x) + np.random.default_rng(seed).normal()


def exits(x):
    raise SystemExit(3)


def forks(x):
    os.fork()
    return bowl(x)


class Curriculum:
    """Survives longer the nearer to 0.3; the horizon doubles when half of a turn reaches it."""

    def start(self):
        return {"horizon": 4}

    def judge(self, x, carry, seed):
        steps = min(carry["horizon"], int(4 / (0.01 + abs(float(x[0]) - 0.3))))
        return -float(steps), int(steps >= carry["horizon"])

    def absorb(self, carry, reports):
        return {"horizon": min(256, 2 * carry["horizon"])} if 2 * sum(reports) >= len(reports) else carry

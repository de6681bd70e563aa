"""A warmed process that forks runs and kills them, so that each takes milliseconds: one JSON line asks for one run."""

import json
import math
import os
import signal
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path

import numpy as np

import eitherway as ew
from eitherway import methods
from eitherway.methods.codec import encode
from eitherway.run import journal, loop, store
from eitherway.run.search import Search

SPACE = dict.fromkeys("abcde", (-3.0, 3.0))
LOG = [-1]
"""Where every judged evaluation leaves one byte, at once."""


def _formula(a, b, c, d, e):
    x = (a, b, c, d, e)
    return sum(10 * (v - u**2) ** 2 + (1 - u) ** 2 for u, v in zip(x, x[1:]))


def _paid():
    os.write(LOG[0], b".")


def smooth(**x):
    """Rosenbrock's valley, for numbers and for tensors."""
    _paid()
    return _formula(**x)


def flaky(**x):
    """The valley, but one point in five has no value."""
    _paid()
    if int(abs(sum(x.values())) * 1e6) % 5 == 0:
        raise ew.Failed(f"no luck at a={x['a']:.3f}")
    return _formula(**x)


@ew.seeded
def noisy(seed, **x):
    _paid()
    return _formula(**x) + np.random.default_rng(seed).normal()


class Curriculum:
    """Steps a noisy cart stays near the middle; the horizon doubles when half of a turn reaches it."""

    def start(self):
        return {"horizon": 8, "mean": np.zeros(2)}

    def judge(self, values, carry, seed):
        _paid()
        noise = np.random.default_rng(seed).normal(size=carry["horizon"])
        place, speed, steps = 0.1, 0.0, 0
        for kick in noise:
            speed += 0.1 * (place + 2 * math.tanh(values["a"] * place + values["b"] * speed) + 0.1 * kick)
            place, steps = place + 0.1 * speed, steps + 1
            if abs(place) > 1:
                break
        return -float(steps), (int(steps == carry["horizon"]), np.array([place, speed]))

    def absorb(self, carry, reports):
        told = [report for report in reports if report is not None]
        reached = 2 * sum(report[0] for report in told) >= len(told)
        mean = 0.9 * carry["mean"] + 0.1 * np.mean([report[1] for report in told], 0)
        return {"horizon": min(256, carry["horizon"] * (2 if reached else 1)), "mean": mean}

    def moved(self, old, new):
        return old["horizon"] != new["horizon"]


COSTS = {"smooth": smooth, "flaky": flaky, "noisy": noisy, "curriculum": Curriculum()}


def wants_gradients(method):
    """Whether a method asks for a gradient within its first questions."""
    search = Search(SPACE, method)
    for _ in range(4):
        question = search.open()
        if question is None or question.wants == "gradient":
            return question is not None
        for trial in search.ask(len(question.points)):
            search.tell(trial, float(np.sum(trial.point**2)))
    return False


def _dies_at(statement):
    """Connections that kill their process just before the n-th statement; and the count so far."""
    count, connect = [0], store.connect

    def counted(name, uri=False):
        def trace(text):
            count[0] += 1
            if count[0] == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        db = connect(name, uri)
        db.set_trace_callback(trace)
        return db

    store.connect = counted
    return count


def _run(order):
    """In a child: one run to its end, told in one JSON line to the file beside the journal."""
    path = Path(order["path"])
    LOG[0] = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop.TICK, journal.GROUP, journal.REPLAY, journal.PATIENCE = order["tick"], order["tick"], order["replay"], 0
    journal.BESIDE = order["beside"]
    count = _dies_at(order.get("statement"))
    cost, method, budget = COSTS[order["cost"]], order["method"], order["budget"]
    result = ew.minimize(cost, SPACE, method, budget=budget, seed=order["seed"], journal=path, progress=None)
    h = result.history
    said = {
        "state": sha256(encode(result.search.state)).hexdigest(),
        "best": repr(result.best),
        "value": repr(result.value),
        "reason": result.reason,
        "evaluations": result.evaluations,
        "failures": result.failures,
        "history": sha256(encode([h["turn"], h["value"], h["status"], h.points(), sorted(h.why.items())])).hexdigest(),
    }
    Path(f"{path}.out").write_text(json.dumps({"said": said, "statements": count[0]}))


def _fork(order):
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _run(order)
            code = 0
        except BaseException:
            Path(order["path"] + ".out").write_text(json.dumps({"error": traceback.format_exc()}))
        finally:
            os._exit(code)
    if order.get("after") is not None:
        time.sleep(order["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    out = Path(order["path"] + ".out")
    told = {} if killed or not out.exists() else json.loads(out.read_text())
    return {"killed": killed, "seconds": time.perf_counter() - began, **told}


def main():
    found = methods.known()  # everything is imported, and the folders are looked through, before anything is forked
    methods.known = lambda: found
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("torch"):
            import torch

            torch.set_num_threads(1)
        try:
            told = {"gradients": wants_gradients(order["ask"])} if "ask" in order else _fork(order)
        except Exception:
            told = {"error": traceback.format_exc()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

"""What holds for every test: one thread, no GPU, no network, no window, and examples that are the same every day."""

import gc
import os
import signal
from pathlib import Path

# Before NumPy, torch or numba are imported: threads of their own would make timings and sums depend on the machine.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["MPLBACKEND"] = "Agg"
# Processes that tests start find this clone, installed or not.
_SOURCE = str(Path(__file__).resolve().parent.parent / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_SOURCE, os.environ.get("PYTHONPATH"))))

# Whoever starts the tests in the background has Ctrl-C ignored in them and in all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Half a million objects live as long as the session: torch, the modules, the collected tests. They are set aside once
# they are there, so that collecting what tests leave behind costs what tests leave behind.
gc.disable()

import random  # noqa: E402
import socket  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

# The same examples every day; `pytest --hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile("eitherway", deadline=None, derandomize=True, max_examples=50, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("eitherway")


class _SameChance:
    """The global generators stand as at the start, whatever ran before: no outcome depends on luck or a neighbour.

    torch seeds its own anew in every process, and a model that a test makes without a word is drawn from it.
    """

    def pytest_collectstart(self) -> None:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.default_generator.manual_seed(0)

    @pytest.hookimpl(tryfirst=True)  # before the fixtures
    def pytest_runtest_setup(self) -> None:
        self.pytest_collectstart()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_SameChance())  # for the examples in src, too


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # Python's 700 would look through what a test still uses, a tenth of all time
    gc.enable()


_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Nothing we ship calls anybody: a connection that leaves this machine fails the test that opened it."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test tried to reach {address!r}; tests stay on this machine")
        connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connect_here)
    yield
    patch.undo()

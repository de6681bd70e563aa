"""Hand-written Functions while runs are recorded: each thread's own recording, and nothing left behind."""

import threading

import torch

from eitherway.graph.handwritten import handed_to, recording


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def taker(seen):
    def take(cls, original, args, kwargs):
        seen.append(cls)
        return original(cls, *args, **kwargs)

    return take


def test_recordings_of_two_threads_that_overlap_end_as_if_none_had_been():
    body = torch.autograd.Function.apply.__func__.__code__
    began, ended = threading.Event(), threading.Event()
    first: list[type] = []
    second: list[type] = []

    def other():
        with handed_to(taker(second)):
            began.set()
            assert ended.wait(10)  # the first recording is over by now
            assert recording()
            Twice.apply(torch.ones(1))

    thread = threading.Thread(target=other)
    with handed_to(taker(first)):
        thread.start()
        assert began.wait(10)
        Twice.apply(torch.ones(1))
    ended.set()
    thread.join(10)
    assert first == [Twice] and second == [Twice]
    assert not recording() and torch.autograd.Function.apply.__func__.__code__ is body

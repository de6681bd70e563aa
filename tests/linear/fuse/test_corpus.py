"""The corpus of models that fusers get wrong: none of ours is, as given and at other batches."""

import pytest
import torch
from tests.corpora import generator
from tests.corpora.fusing import MODELS
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.linear.fuse import fuse_linear

SOME = MODELS[::16]


def answers(f, xs):
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        return [leaf for leaf in pytree.tree_leaves(f(*(x.clone() for x in xs))) if isinstance(leaf, Tensor)]


def alike(mine, wanted):
    for one, two in zip(mine, wanted, strict=True):
        assert one.shape == two.shape and one.dtype == two.dtype
        if one.numel():
            bound = 64 * (torch.finfo(two.dtype).eps if two.is_floating_point() else 0)
            assert (one.double() - two.double()).abs().max() <= bound * two.double().abs().max()


def taken(f, xs):
    """What f answers; None where it says that it was made for other sizes."""
    try:
        return answers(f, xs)
    except ModelError:
        return None


def judge(entry):
    model, example = entry.make(generator(entry.name))
    xs = example if isinstance(example, tuple) else (example,)
    fused = fuse_linear(model, example, mode="given")
    alike(answers(fused.model, xs), answers(model, xs))
    report = fused.report
    if entry.must == "refuse some":
        assert report.kept_whole or report.refusals
    if entry.layers is not None and not report.kept_whole:
        assert report.layers_after == entry.layers
    if report.kept_whole:  # never in silence, and never what states how few layers it comes out with
        assert entry.must == "refuse some" or entry.layers is None, report.kept_whole
    for size in (1, 2, 7):
        others = [x.index_select(0, torch.arange(size) % len(x)) if x.dim() else x for x in xs]
        try:
            wanted = answers(model, others)
        except Exception:
            continue  # the original does not take it either
        mine = taken(fused.model, others)
        if mine is not None:
            alike(mine, wanted)


@pytest.mark.parametrize("entry", SOME, ids=lambda entry: entry.name)
def test_some_models_of_the_corpus_answer_as_the_original_does(entry):
    judge(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_every_model_of_the_corpus_answers_as_the_original_does(entry):
    judge(entry)

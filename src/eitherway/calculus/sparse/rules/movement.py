"""Data moved about: the operation itself, run on set numbers instead of data, says where they go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure

NO_DATA = {"dtype": None, "layout": None, "device": None, "pin_memory": None, "memory_format": None}


@rule(
    "view", "_unsafe_view", "reshape", "_reshape", "_reshape_alias", "permute", "transpose", "t", "expand", "slice",
    "select", "unsqueeze", "squeeze", "flip", "roll", "rot90", "repeat", "tile", "diagonal", "as_strided", "split",
    "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "unbind", "unfold",
    "narrow", "movedim", "cat", "stack", "hstack", "tril", "triu", "slice_scatter", "select_scatter",
    "diagonal_scatter", "as_strided_scatter", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "diag_embed", "im2col", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "block_diag", "swapaxes", "swapdims", "trace", "conj", "_conj", "_neg_view",
    "resolve_conj", "resolve_neg", "_pad_circular", "repeat_interleave", "masked_select", "flatten", "unflatten",
)  # fmt: skip
def moved(site: Site) -> Answer:
    """A constant that is moved along, such as a border, brings the empty set."""
    return run(site, {})


@rule("index", "_unsafe_index", "gather", "index_select", "take", "embedding", "take_along_dim")
def picked(site: Site) -> Answer:
    """Where the places depend on x, each output may come from anywhere along the axes that are picked from."""
    source = site.operand("self", "weight")
    indices = [o for o in site.operands if o is not source]
    if all(index.constant for index in indices):
        return run(site, {})
    ids = source.numbers()
    blurred = site.over(ids, _picked_axes(site, ids.dim())).expand(ids.shape)
    return run(site, {id(source): blurred}, anyhow=True)


def _picked_axes(site: Site, dims: int) -> list[int]:
    """The axes that an indexing operation picks from."""
    name = site.op.name
    if name in ("gather", "index_select", "take_along_dim") and site["dim"] is not None:
        return [site["dim"] % max(dims, 1)]
    if name == "embedding":
        return [0]
    if name not in ("index", "_unsafe_index"):
        return list(range(dims))
    axes, at = [], 0
    for index in site["indices"]:
        mask = isinstance(index, Operand) and index.tensor.dtype in (torch.bool, torch.uint8)
        width = index.tensor.dim() if mask else 1
        if index is not None:
            axes += range(at, at + width)
        at += width
    return axes


def run(site: Site, instead: dict[int, Tensor], *, anyhow: bool = False) -> Answer:
    """The operation on set numbers.

    Args:
        instead: set numbers to be used for an operand, by its id.
        anyhow: take indices as they stand, though they depend on x.
    """

    def swap(leaf: Any) -> Any:
        if not isinstance(leaf, Operand):
            return leaf
        if id(leaf) in instead:
            return instead[id(leaf)]
        if leaf.value.dtype.is_floating_point or leaf.value.dtype.is_complex:
            return leaf.numbers().clone() if site.op.mutates else leaf.numbers()
        return leaf.tensor if anyhow else leaf.content()

    args, kwargs = pytree.tree_map(swap, (list(site.args), site.kwargs))
    for i, argument in enumerate(site.op.target._schema.arguments[: len(args)]):
        if argument.name in ("value", "fill_value") and isinstance(args[i], (int, float)):
            args[i] = 0
    kwargs = {name: given for name, given in kwargs.items() if name not in NO_DATA}
    if isinstance(kwargs.get("value"), (int, float)):
        kwargs["value"] = 0
    try:
        answer = site.op.target(*args, **kwargs)
    except RuntimeError:  # some know floating-point numbers only, which are exact up to 2^53
        answer = _as_floats(site, args, kwargs)
    return list(answer) if isinstance(answer, (list, tuple)) else answer


def _as_floats(site: Site, args: Any, kwargs: Any) -> Any:
    data = {id(o) for o in site.operands if o.ids is not None}

    def swap(given: Any, leaf: Any) -> Any:
        floats = isinstance(leaf, Operand) and (id(leaf) in data or leaf.value.dtype.is_floating_point)
        return given.double() if floats else given

    try:
        args = [pytree.tree_map(swap, given, leaf) for given, leaf in zip(args, site.args)]
        answer = site.op.target(*args, **kwargs)
    except (RuntimeError, ValueError):
        raise Unsure from None
    return pytree.tree_map(lambda part: part.long() if part.is_floating_point() else part, answer)

"""Data put at places: scattering, adding and writing at indices. What meets at one place is united."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure


@rule("scatter", "scatter_add", "scatter_reduce")
def scattered(site: Site) -> Answer:
    into, index, source = site.operand("self"), site.operand("index"), site["src"]
    axis, places = site["dim"] % max(into.tensor.dim(), 1), index.tensor
    given = _cropped(source.numbers(), places.shape) if isinstance(source, Operand) else torch.zeros_like(places)
    adds = site.op.name.startswith("scatter_add") or site["reduce"] is not None
    keep = adds and site["include_self"] is not False
    if not index.constant:
        anywhere = torch.zeros_like(into.numbers())
        window = tuple(slice(0, n) if d != axis else slice(None) for d, n in enumerate(places.shape))
        anywhere[window] = site.over(given, axis).expand(anywhere[window].shape)
        return site.join(into.numbers(), anywhere)
    return _put(site, into, _positions(into).gather(axis, places), given, keep)


@rule("index_add", "index_copy", "index_reduce", "index_fill")
def indexed(site: Site) -> Answer:
    into, index, source = site.operand("self"), site.operand("index"), site["source"] or site["value"]
    positions = _positions(into).index_select(site["dim"], index.content().reshape(-1))
    given = source.numbers() if isinstance(source, Operand) else torch.zeros((), dtype=torch.int64)
    keep = plain_add(site) and site["include_self"] is not False
    return _put(site, into, positions, given.expand(positions.shape), keep)


def plain_add(site: Site) -> bool:
    return site.op.name.startswith(("index_add", "index_reduce"))


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def put_at(site: Site) -> Answer:
    into, values = site.operand("self"), site.operand("values")
    indices = [None if index is None else index.content() for index in site["indices"]]
    positions = torch.ops.aten.index(_positions(into), indices)
    return _put(site, into, positions, values.numbers().expand(positions.shape), bool(site["accumulate"]))


@rule("put")
def put_flat(site: Site) -> Answer:
    into, index, source = site.operand("self"), site.operand("index").content(), site.operand("source")
    return _put(site, into, index % max(into.tensor.numel(), 1), source.numbers(), bool(site["accumulate"]))


@rule("masked_scatter")
def masked(site: Site) -> Answer:
    into, mask, source = site.operand("self"), site.operand("mask").content(), site.operand("source")
    positions = _positions(into)[mask.expand(into.shape)]
    return _put(site, into, positions, source.numbers().reshape(-1)[: positions.numel()], False)


@rule("col2im")
def folded(site: Site) -> Answer:
    """The other way round of `im2col`: each column entry goes where that would have taken it from."""
    columns, size = site.operand("self"), site["output_size"]
    batched = columns.tensor.dim() == 3
    ids = columns.numbers() if batched else columns.numbers()[None]
    channels = site.shape[-3]
    image = torch.arange(1, channels * size[0] * size[1] + 1, dtype=torch.float64).reshape(1, channels, *size)
    taken = torch.ops.aten.im2col(image, site["kernel_size"], site["dilation"], site["padding"], site["stride"])
    each = image.numel()
    base = torch.arange(len(ids))[:, None, None] * (each + 1)
    groups = taken.long() + base  # place 0 of each sample is the border, thrown away
    united = site.unite(groups.expand(ids.shape), ids, len(ids) * (each + 1))
    return united.reshape(len(ids), each + 1)[:, 1:].reshape(site.shape)


@rule("max_unpool2d", "max_unpool3d")
def unpooled(site: Site) -> Answer:
    """Where each maximum goes depends on x, unless the places are constants: anywhere in its plane."""
    given, places = site.operand("self"), site.operand("indices")
    axes = 3 if site.op.name.endswith("3d") else 2
    ids = given.numbers()
    planes = ids.reshape(-1, ids.shape[-axes:].numel())
    size = site.shape[-axes:].numel()
    if not places.constant:
        return site.rows(planes)[:, None].expand(-1, size).reshape(site.shape)
    offsets = torch.arange(len(planes))[:, None] * size
    return site.unite(places.tensor.reshape(planes.shape) + offsets, planes, len(planes) * size).reshape(site.shape)


def _positions(into: Operand) -> Tensor:
    return torch.arange(into.value.numel).reshape(into.shape)


def _cropped(ids: Tensor, shape: torch.Size) -> Tensor:
    return ids[tuple(slice(0, n) for n in shape)] if ids.dim() else ids.expand(shape)


def _put(site: Site, into: Operand, positions: Tensor, given: Tensor, keep: bool) -> Tensor | None:
    """`given` at flat `positions`; autograd lets all that were written to one place through, whichever came last."""
    if positions.shape != given.shape:
        raise Unsure
    ids = into.numbers()
    if not keep:
        ids = ids.clone(memory_format=torch.contiguous_format)
        ids.view(-1)[positions.reshape(-1)] = 0
    put = site.unite(positions, given, ids.numel()).reshape(ids.shape)
    return site.join(ids, put)

"""Closed kernels and compiled code, switched off for a while: what runs is then made of operations that can be seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch


@contextmanager
def open_attention() -> Iterator[None]:
    """Inside, multi-head attention in eval mode runs as the operations it is written in, not by its fast path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Inside, attention and recurrent cells run as the products and sums they are, not as one closed kernel."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    onednn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with open_attention(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)


def uncompiled() -> AbstractContextManager[Any]:
    """Inside, what was compiled runs as it was written. Before 2.6 torch has no word for that, and nothing changes.

    Nothing was compiled while torch's compiler has not been loaded, which would take a second.
    """
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    return set_stance("force_eager")

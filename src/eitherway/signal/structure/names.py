"""Operations by what they do to a signal: move it, cut it, join it, act element by element, normalise it."""

from __future__ import annotations

import torch

from eitherway.graph import Op

TURNS = {
    "permute", "transpose", "t", "numpy_T", "mT", "mH", "matrix_H", "adjoint", "swapaxes", "swapdims", "movedim",
    "moveaxis", "unsqueeze", "flip", "fliplr", "flipud", "roll", "rot90", "tril", "triu", "channel_shuffle",
}  # fmt: skip
"""Moves after which an element stands elsewhere: combined with the unmoved they are no function of one number."""

MOVES = TURNS | {
    "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten", "ravel", "squeeze",
    "contiguous", "clone", "alias", "detach", ".data", "expand", "expand_as", "repeat", "repeat_interleave", "tile",
    "broadcast_to", "to", "_to_copy", "type_as", "lift_fresh", "lift_fresh_copy", "lift", "pin_memory", "requires_grad",
    "pixel_shuffle", "pixel_unshuffle", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "pad",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "im2col", "unfold", "dropout", "feature_dropout", "alpha_dropout",
    "feature_alpha_dropout", "native_dropout", "_pack_padded_sequence", "_pad_packed_sequence", "resolve_conj",
    "resolve_neg", "block_diag", "_conj", "view_as_real", "view_as_complex", "atleast_1d", "atleast_2d", "atleast_3d",
}  # fmt: skip
"""Elements go elsewhere or are doubled; their law stays. Dropout is one: it keeps the mean, and is gone at the end."""

SPLITS = {
    "slice", "narrow", "select", "chunk", "unsafe_chunk", "split", "split_with_sizes", "unsafe_split", "tensor_split",
    "hsplit", "vsplit", "dsplit", "unbind", "index_select", "index", "masked_select", "diagonal",
}  # fmt: skip
"""Moves whose result is a part: two parts of one value are two sources."""

JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack"}

SHAPE_ONLY = {
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_empty", "new_full", "new_empty_strided", "sym_size", "size", "bernoulli_like",
}  # fmt: skip
"""What they read gives its shape alone."""

ADDS = {"add", "sub", "rsub", "subtract"}
PRODUCTS = {"mul", "div", "multiply", "divide", "true_divide"}

ELEMENTWISE = ADDS | PRODUCTS | {
    "hardswish", "prelu", "log_sigmoid", "special_expit", "negative", "absolute", "_prelu_kernel", "clip", "square",
    "float_power", "addcmul", "addcdiv", "logit", "sinc", "special_erf", "special_expm1", "swish", "erf", "rrelu",
    "arctan", "arcsin", "arccos", "arctanh", "arcsinh", "arccosh", "greater", "less", "not_equal", "where",
}  # fmt: skip
"""Those that torch does not tag as pointwise at this level, and the sums and products."""

NORMS = {
    "layer_norm": "layer", "native_layer_norm": "layer", "rms_norm": "rms", "_fused_rms_norm": "rms",
    "group_norm": "group", "native_group_norm": "group", "instance_norm": "instance", "batch_norm": "batch",
    "native_batch_norm": "batch", "_native_batch_norm_legit": "batch",
}  # fmt: skip
"""Name to kind."""

CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
TRANSPOSED = {"conv_transpose1d": 1, "conv_transpose2d": 2, "conv_transpose3d": 3}
RECURRENT = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
CELLS = {"lstm_cell": 4, "gru_cell": 3, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}
"""Name to the number of gates."""

PRODUCTS_OF_MATRICES = {
    "matmul", "mm", "bmm", "mv", "addmm", "addmv", "baddbmm", "addbmm", "einsum", "tensordot", "dot", "linear",
}  # fmt: skip
WEIGHT_SLOTS = {*CONVOLUTIONS, *TRANSPOSED, *RECURRENT, *CELLS, *NORMS, "embedding", "embedding_bag", "bilinear"}
"""Besides the products of matrices: operations that read what is no signal as a weight."""

REDUCTIONS = {"mean", "var", "std", "sum", "linalg_vector_norm", "norm", "var_mean", "std_mean", "linalg_norm"}


def plain(op: Op) -> str:
    """The operation's name without the underscore of a write."""
    return op.name[:-1] if op.name.endswith("_") and not op.name.endswith("__") else op.name


def pointwise(op: Op, name: str) -> bool:
    """Whether each element of the answer is made of the elements that stand there."""
    return name in ELEMENTWISE or torch.Tag.pointwise in getattr(op.target, "tags", ())


def argument(op: Op, position: int, name: str, default: object = None) -> object:
    """An argument by its place or its name."""
    return op.args[position] if position < len(op.args) else op.kwargs.get(name, default)

"""Functions and modules whose Jacobians are taken: what people write with torch, small enough for a dense truth.

`CASES` is the whole corpus, also the parts that stand in `modules` and `edges`; the truth is `dense(f, x)`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.corpora import normal
from tests.corpora.case import DETACHED, Case, Function, dense, drawn, non_zeros, plain
from tests.corpora.edges import EDGES, IN_PLACE
from tests.corpora.modules import CONVOLUTIONS, NETWORKS, NORMS, POOLS

__all__ = ["CASES", "Case", "Function", "dense", "non_zeros"]


def chain_of_formulas(x: Tensor) -> Tensor:
    return torch.log1p(x**2) * torch.atan(x) + torch.expm1(-x.square()) / (2 + torch.cos(x)) - x.sigmoid().rsqrt()


ELEMENTWISE = (
    plain("sin", torch.sin, 12),
    plain("long formula", chain_of_formulas, 4, 5),
    plain("x times x and its copy", lambda x: x * x.clone() + x.detach() * 2, 9, note=DETACHED),
    plain("where of the sign", lambda x: torch.where(x > 0, x.sin(), x.exp()), 11),
    plain("clamp", lambda x: x.clamp(-0.5, 0.5), 12, tight=None),
    plain("maximum with a number", lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype)), 12, tight=None),
    plain("minimum of two halves", lambda x: torch.minimum(x[:6], x[6:]), 12, tight=None),
    plain("nan_to_num, lerp and addcmul", lambda x: torch.addcmul(x, x, x.cos()).lerp(x.exp().nan_to_num(), 0.3), 8),
    plain("broadcast product", lambda x: x[:, None] * x[None, :], 7),
    plain("power of two variables", lambda x: x[0] ** x[1], 2, 6, of=lambda x: x.abs() + 0.5),
    plain("atan2 and hypot", lambda x: torch.atan2(x[0], x[1]) + torch.hypot(x[0], x[1]), 2, 5),
    plain("remainder and frac", lambda x: torch.remainder(x, 0.7) + x.frac(), 10),
    plain("abs, sign and copysign", lambda x: x.abs() * x.sign() + 2 * torch.copysign(x, -x), 10),
    plain("special functions", lambda x: torch.special.erf(x) + torch.lgamma(x.abs() + 1) + torch.sinc(x), 9),
    plain("straight line of scalars", lambda x: 3 - 2 * x / 5, 4, 4),
    plain("a scalar", torch.tanh, note="x has no dimensions"),
    plain("scalar from one number", lambda x: x[0].sin(), 1),
    Case("float32", lambda g: (lambda x: x.sin() * x.roll(1), normal(g, 10).float()), note="x is float32"),
    Case("transposed example", lambda g: (lambda x: x.cos().contiguous() + x, normal(g, 4, 5).t()), note="x strided"),
)


ZEROS = (
    plain("round, floor and ceil", lambda x: x.round() + x.floor() * x.ceil(), 9),
    plain("float to int to float", lambda x: (10 * x).int().to(x.dtype) + x, 9),
    plain("comparison as float", lambda x: (x > 0).to(x.dtype) * x.roll(1), 9, tight=None),
    plain("sign alone", torch.sign, 6),
    plain("argmax as float", lambda x: x.argmax(-1).to(x.dtype), 3, 4),
    plain("constant output", lambda x: torch.ones(5, dtype=x.dtype), 4, note="nothing depends on x"),
    plain(
        "partly constant output", lambda x: torch.cat([x, torch.ones(3, dtype=x.dtype), x.detach()]), 4, note=DETACHED
    ),
    plain("zeros like x", torch.zeros_like, 5),
    plain("x itself", lambda x: x, 3, 4, note="the output is the input, not a copy"),
    plain("a view of x", lambda x: x.view(-1)[2:], 3, 4),
    plain("detached", lambda x: x.detach() * 2, 6, note=DETACHED),
    plain("x times zero", lambda x: x * 0.0 + x.flip(0), 6, tight=None),
    plain("x minus x", lambda x: x - x.clone() + x.roll(1), 6, tight=False),
    plain("sin squared plus cos squared", lambda x: x.sin() ** 2 + x.cos() ** 2, 6, tight=False),
    plain("empty output", lambda x: x[:0], 4, note="p = 0"),
)


def five_points(x: Tensor) -> Tensor:
    y = F.pad(x, (1, 1, 1, 1))
    return y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * x + x**3


def convolved(kernel: Tensor) -> Function:
    return lambda x: F.conv2d(x, kernel, padding=1)


def looped(x: Tensor) -> Tensor:
    total, out = x.new_zeros(()), []
    for i in range(x.shape[0]):
        total = torch.tanh(total + x[i])
        out.append(total if i % 2 else x[i] * x[i - 1])
    return torch.stack(out)


def filled(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape[0], dtype=x.dtype)
    for i in range(1, x.shape[0]):
        y[i] = x[i] * x[i - 1]
    return y


NEIGHBOURS = (
    plain("tridiagonal", lambda x: F.pad(x[1:], (0, 1)) - 2 * x + F.pad(x[:-1], (1, 0)) + x**3, 20),
    plain("Rosenbrock's terms", lambda x: torch.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]]), 12),
    plain("stencil of five points", five_points, 7, 8),
    plain("stencil by rolling", lambda x: x.roll(1, 0) * x.roll(-1, 1) + x, 5, 6),
    plain("second difference by diff", lambda x: x.diff(n=2) ** 2, 14),
    drawn("stencil by conv2d", lambda g: convolved(normal(g, 1, 1, 3, 3)), 1, 1, 6, 6),
    plain("loop over time", looped, 9),
    plain("loop filling torch.zeros", filled, 9, note="a fixed buffer written in place: vmap cannot"),
    plain("gradient of a field", lambda x: torch.stack(torch.gradient(x)), 5, 6),
    plain("moving average by unfold", lambda x: x.unfold(0, 4, 2).mean(-1), 14),
    plain("trapezoid rule", lambda x: torch.cumulative_trapezoid(x**2), 9),
)


REDUCTIONS = (
    plain("sum of an axis", lambda x: x.sin().sum(1), 4, 5),
    plain("mean of two axes, kept", lambda x: x.mean((0, 2), keepdim=True) ** 2, 3, 4, 2),
    plain("sum of squares", lambda x: (x**2).sum(), 10, note="the output is a scalar"),
    plain("variance and deviation", lambda x: x.var(0) + x.std(1).sum(), 4, 4),
    plain("norms", lambda x: torch.stack([x.norm(), x.norm(p=1), x.norm(p=4)]), 8),
    plain("prod of an axis", lambda x: x.prod(-1), 3, 4),
    plain("logsumexp", lambda x: x.logsumexp(0), 4, 5),
    plain("cumsum", lambda x: x.cumsum(0), 12),
    plain("cumprod of rows", lambda x: x.cumprod(1), 3, 5),
    plain("logcumsumexp", lambda x: x.logcumsumexp(0), 8),
    plain("cummax", lambda x: x.cummax(0).values, 9, tight=None),
    plain("max of an axis", lambda x: x.max(1).values, 4, 5, tight=None),
    plain("amin", lambda x: x.amin(0), 4, 5, tight=None),
    plain("max over all", lambda x: x.max(), 9, tight=None),
    plain("median", lambda x: x.median(1).values, 4, 5, tight=None),
    plain("kthvalue", lambda x: x.kthvalue(2, 0).values, 5, 4, tight=None),
    plain("quantile", lambda x: x.quantile(0.4, dim=0), 6, 3, tight=None),
    plain("sort", lambda x: x.sort(-1).values, 3, 5, tight=None),
    plain("argsort and gather", lambda x: x.gather(1, x.argsort(1, descending=True)), 3, 5, tight=None),
    plain("topk", lambda x: x.topk(3).values, 3, 6, tight=None),
    plain("mean squared error", lambda x: F.mse_loss(x[0], x[1], reduction="none"), 2, 7),
    plain("cross entropy", lambda x: F.cross_entropy(x, torch.tensor([0, 2, 1]), reduction="none"), 3, 4),
    plain("bucket sums by index_add", lambda x: x.new_zeros(3).index_add(0, torch.tensor([0, 2, 2, 1, 0]), x**2), 5),
)


PICKED = torch.tensor([[0, 2], [3, 3], [1, 0]])

MOVES = (
    plain("cat, stack and chunk", lambda x: torch.cat([torch.stack(x.chunk(2, 1)).sin().flatten(), x[0]]), 3, 4),
    plain(
        "split, unbind and hstack",
        lambda x: torch.hstack([*x.split([1, 3], 1), *[r[:, None] for r in x.unbind(1)]]),
        3,
        4,
    ),
    plain("permute and reshape", lambda x: x.permute(2, 0, 1).reshape(4, -1) ** 2, 2, 3, 4),
    plain("flip, rot90 and roll", lambda x: x.flip(0) + x.rot90() * x.roll((1, 2), (0, 1)), 4, 4),
    plain("repeat, tile and expand", lambda x: torch.cat([x.repeat(2), x.tile(3), x.expand(2, -1).flatten()]), 4),
    plain("repeat_interleave", lambda x: x.repeat_interleave(torch.tensor([1, 0, 3, 2]), dim=0).cos(), 4, 2),
    plain(
        "pad in three modes",
        lambda x: torch.cat([F.pad(x, (2, 1), m).sin() for m in ("reflect", "circular", "replicate")]),
        1,
        2,
        6,
    ),
    plain("strided slices", lambda x: x[1::2, ::3] * x[:-1:2, 1::3], 5, 6),
    plain("indexing with repeats", lambda x: x[[0, 2, 2, 1]] * x[:, [1]][0], 3, 4),
    plain(
        "None, ellipsis and boolean mask", lambda x: x[..., torch.tensor([True, False, True])][:, None].exp(), 3, 2, 3
    ),
    plain("gather", lambda x: x.gather(1, PICKED), 3, 4),
    plain(
        "index_select and take",
        lambda x: x.index_select(1, torch.tensor([2, 0])).flatten() * x.take(torch.tensor([5])),
        3,
        4,
    ),
    plain("scatter", lambda x: torch.zeros(3, 5, dtype=x.dtype).scatter(1, torch.tensor([[4, 0]] * 3), x), 3, 2),
    plain("scatter_add", lambda x: x.scatter_add(1, PICKED, x[:, :2].sin()), 3, 4),
    plain("scatter_reduce of products", lambda x: x.scatter_reduce(0, torch.tensor([0, 0, 1]), x[:3], "prod"), 5),
    plain("index_put accumulating", lambda x: x.index_put((torch.tensor([0, 0, 2]),), x[:3] ** 2, accumulate=True), 5),
    plain(
        "masked_fill and masked_scatter",
        lambda x: x.masked_scatter(EYE > 0, x[0]).masked_fill(EYE.flip(0) > 0, 1.0),
        4,
        4,
    ),
    plain("unfold and fold", lambda x: F.fold(F.unfold(x, 2), (4, 4), 2) * 2, 1, 2, 4, 4),
    plain("as_strided", lambda x: x.as_strided((4, 3), (2, 1), 1) ** 2, 12),
    plain("tril and triu", lambda x: x.tril() @ EYE + x.triu(1).sin(), 4, 4),
    plain("diag, diagonal and diag_embed", lambda x: torch.diag_embed(x.diagonal()) + torch.diag(x[0]), 4, 4),
    plain("triangle by indices", lambda x: x[tuple(torch.tril_indices(4, 4))], 4, 4),
    plain("meshgrid", lambda x: torch.stack(torch.meshgrid(x[:3], x[3:], indexing="ij")).prod(0), 7),
    plain("pixel_shuffle and unshuffle", lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2).sin(), 2), 1, 4, 3, 3),
    plain("channel_shuffle", lambda x: F.channel_shuffle(x, 2) ** 2, 1, 4, 2, 2),
    plain("nearest up", lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), 1, 1, 4, 4),
    plain("linear up", lambda x: F.interpolate(x, size=11, mode="linear"), 1, 2, 5),
    plain("bilinear up", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 1, 1, 5, 5),
    plain(
        "bilinear, corners aligned",
        lambda x: F.interpolate(x, size=(7, 6), mode="bilinear", align_corners=True),
        1,
        1,
        4,
        5,
        tight=None,
    ),
    plain("bicubic up", lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 1, 1, 5, 5),
    plain("antialiased down", lambda x: F.interpolate(x, size=(3, 3), mode="bilinear", antialias=True), 1, 1, 8, 8),
    plain("area down", lambda x: F.interpolate(x, size=(3, 2), mode="area"), 1, 1, 7, 5),
    drawn("grid_sample in the image", lambda g: sampled(normal(g, 1, 3, 4, 2) * 0.4), 1, 2, 5, 5),
    drawn("grid_sample in the grid", lambda g: sampled_at(normal(g, 1, 2, 5, 5)), 1, 3, 4, 2, tight=None),
    plain("affine_grid", lambda x: F.affine_grid(x, [2, 1, 4, 4], align_corners=False), 2, 2, 3),
)


def sampled(grid: Tensor) -> Function:
    return lambda image: F.grid_sample(image, grid, align_corners=False)


def sampled_at(image: Tensor) -> Function:
    return lambda grid: F.grid_sample(image, grid.tanh(), align_corners=False)


EYE = torch.eye(4, dtype=torch.float64)


def positive(x: Tensor) -> Tensor:
    return x @ x.mT + 3 * torch.eye(x.shape[-1], dtype=x.dtype)


def product(weight: Tensor) -> Function:
    return lambda x: weight @ x


def solved(matrix: Tensor) -> Function:
    return lambda x: torch.linalg.solve(matrix, x)


ALGEBRA = (
    plain("matrix product with itself", lambda x: x @ x, 4, 4),
    drawn("sparse constant matrix", lambda g: product(normal(g, 9, 12) * (torch.rand(9, 12, generator=g) < 0.2)), 12),
    drawn(
        "torch.sparse matrix",
        lambda g: product((normal(g, 9, 12) * (torch.rand(9, 12, generator=g) < 0.3)).to_sparse()),
        12,
        1,
    ),
    plain("bmm with the transpose", lambda x: torch.bmm(x, x.mT), 2, 3, 4),
    plain("einsum", lambda x: torch.einsum("bij,bkj->bik", x, x[:, :2]), 2, 3, 4),
    plain("einsum with a diagonal", lambda x: torch.einsum("ii->i", x).sin(), 5, 5),
    plain("outer and dot", lambda x: torch.outer(x, x.sin()) + torch.dot(x, x), 5),
    plain("kron", lambda x: torch.kron(x[0], x[1]), 2, 2, 3),
    plain("cross", lambda x: torch.linalg.cross(x[0], x[1]), 2, 4, 3),
    drawn("cdist to fixed points", lambda g: with_points(normal(g, 4, 3)), 5, 3),
    plain("cdist with itself", lambda x: torch.cdist(x[:3], x[3:]), 6, 2),
    plain("distances with a zero diagonal", lambda x: (x[:, None] - x[None, :]).square().sum(-1), 5, 2, tight=False),
    drawn("solve with a fixed matrix", lambda g: solved(normal(g, 5, 5) + 4 * torch.eye(5)), 5, 2),
    plain("solve in the matrix", lambda x: torch.linalg.solve(positive(x), torch.ones(4, dtype=x.dtype)), 4, 4),
    plain("cholesky", lambda x: torch.linalg.cholesky(positive(x)), 4, 4, tight=None),
    plain("inverse of a batch", lambda x: torch.linalg.inv(positive(x)), 2, 3, 3),
    plain("determinant and slogdet", lambda x: torch.linalg.det(x) + torch.linalg.slogdet(positive(x))[1], 4, 4),
    plain("eigenvalues of a symmetric matrix", lambda x: torch.linalg.eigvalsh(x + x.mT), 4, 4),
    plain("singular values", torch.linalg.svdvals, 4, 3),
    plain("Q of QR", lambda x: torch.linalg.qr(x)[0], 4, 3, tight=None),
    plain("matrix_exp", lambda x: torch.linalg.matrix_exp(0.3 * x), 4, 4),
    plain("matrix_power", lambda x: torch.linalg.matrix_power(x, 3), 4, 4),
    plain("triangular solve", lambda x: torch.linalg.solve_triangular(LOWER, x, upper=False), 4, 2),
    plain("fft and abs", lambda x: torch.fft.fft(x).abs(), 2, 8),
    plain("rfft there and back", lambda x: torch.fft.irfft(torch.fft.rfft(x) ** 2, n=9), 9),
    plain("fft as real numbers", lambda x: torch.view_as_real(torch.fft.rfft(x)), 8, tight=None),
    plain("complex numbers by polar", lambda x: (torch.polar(x[0].exp(), x[1]) ** 2).imag, 2, 6),
    plain(
        "stft magnitude",
        lambda x: torch.stft(x, 8, 4, window=WINDOW, center=False, return_complex=True).abs(),
        20,
    ),
)

LOWER = torch.tensor([[2.0, 0, 0, 0], [1, 2, 0, 0], [0, 1, 3, 0], [1, 1, 1, 2]], dtype=torch.float64)
WINDOW = torch.hamming_window(8, dtype=torch.float64)


def with_points(points: Tensor) -> Function:
    return lambda x: torch.cdist(x, points)


CASES: tuple[Case, ...] = (
    *(*ELEMENTWISE, *ZEROS, *NEIGHBOURS, *CONVOLUTIONS, *POOLS, *NORMS, *NETWORKS),
    *(*REDUCTIONS, *MOVES, *ALGEBRA, *IN_PLACE, *EDGES),
)

"""Attention: encoders, decoders, patches, latents."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts

TOKENS = 256  # in the vocabulary


def ids(batch: int, length: int) -> Tensor:
    return torch.randint(TOKENS, (batch, length))


class Attention(nn.Module):
    """Softmax written out, one packed projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, T, C))


class PreNorm(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, a class token, learned positions (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, dim: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=8, stride=8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.blocks = nn.ModuleList([PreNorm(dim, 4) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class PreNormEncoder(nn.Module):
    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(64, dim)
        self.blocks = nn.Sequential(*[PreNorm(dim, 4) for _ in range(4)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))).mean(dim=1))


class PostNorm(nn.Module):
    """The order of Vaswani et al. 2017, arXiv:1706.03762; separate projections, torch's fused attention."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.scaled_dot_product_attention(
            self.split(self.q_proj(x)), self.split(self.k_proj(x)), self.split(self.v_proj(x))
        )
        x = self.norm1(x + self.dropout(self.out_proj(a.transpose(1, 2).flatten(2))))
        return self.norm2(x + self.dropout(self.linear2(F.relu(self.linear1(x)))))


class PostNormEncoder(nn.Module):
    """Token embeddings times sqrt(dim) and a fixed table of sines in front."""

    table: Tensor

    def __init__(self, dim: int = 128, length: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(TOKENS, dim, padding_idx=0)
        angle = torch.arange(length)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        self.register_buffer("table", torch.stack([angle.sin(), angle.cos()], -1).flatten(1))
        self.layers = nn.ModuleList([PostNorm(dim, 4) for _ in range(4)])
        self.fc = nn.Linear(dim, 100)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * math.sqrt(self.dim) + self.table[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.fc(x)


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder as its documentation has it."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, 0.1, "gelu", batch_first=True, norm_first=norm_first)
        norm = nn.LayerNorm(128) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False)
        self.decoder = nn.Linear(128, 100)

    def forward(self, src: Tensor) -> Tensor:
        return self.decoder(self.encoder(self.embed(src)))


class CausalBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.c_fc, self.c_out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.n_head = heads

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tied head, positional table and a start of its own (Radford et al. 2019)."""

    def __init__(self, dim: int = 128, depth: int = 4, context: int = 64) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(TOKENS, dim),
                wpe=nn.Embedding(context, dim),
                drop=nn.Dropout(0.1),
                h=nn.ModuleList([CausalBlock(dim, 4) for _ in range(depth)]),
                ln_f=nn.LayerNorm(dim),
            )
        )
        self.lm_head = nn.Linear(dim, TOKENS, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                torch.nn.init.zeros_(module.bias)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        t = self.transformer
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = t["drop"](t["wte"](idx) + t["wpe"](pos))
        for block in t["h"]:
            x = block(x)
        logits = self.lm_head(t["ln_f"](x))
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


class T5Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class T5Block(nn.Module):
    """No biases, RMS norms, a learned bias for each distance (Raffel et al. 2020, arXiv:1910.10683)."""

    distance: Tensor

    def __init__(self, dim: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = T5Norm(dim), T5Norm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.wi, self.wo = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        self.relative = nn.Embedding(2 * length - 1, heads)
        self.register_buffer("distance", torch.arange(length)[:, None] - torch.arange(length) + length - 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        bias = self.relative(self.distance).permute(2, 0, 1)
        a = torch.softmax(torch.matmul(q, k.mT) * q.shape[-1] ** -0.5 + bias, -1)
        x = x + self.o(torch.matmul(a, v).transpose(1, 2).flatten(2))
        return x + self.wo(torch.relu(self.wi(self.norm2(x))))


class T5(nn.Module):
    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        self.shared = nn.Embedding(TOKENS, dim)
        self.block = nn.ModuleList(T5Block(dim, 4, 16) for _ in range(3))
        self.final = T5Norm(dim)
        self.lm_head = nn.Linear(dim, TOKENS, bias=False)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        x = self.shared(input_ids)
        for block in self.block:
            x = block(x)
        return {"logits": self.lm_head(self.final(x))}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-two, one], dim=-1) * sin


class LlamaLayer(nn.Module):
    """Rotary positions, grouped keys and values, SwiGLU (Touvron et al. 2023, arXiv:2302.13971)."""

    def __init__(self, dim: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, size = heads, groups, dim // heads
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.q_proj, self.o_proj = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(dim, groups * size, bias=False) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(dim, 2 * dim, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        y = self.input_layernorm(x)
        q = rotate(self.q_proj(y).view(B, T, self.heads, -1).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(y).view(B, T, self.groups, -1).transpose(1, 2), cos, sin)
        v = self.v_proj(y).view(B, T, self.groups, -1).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, -1)
        x = x + self.o_proj(y)
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int = 128, heads: int = 4, length: int = 16) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(TOKENS, dim)
        self.layers = nn.ModuleList([LlamaLayer(dim, heads, 2) for _ in range(3)])
        self.norm = nn.RMSNorm(dim)
        self.lm_head = nn.Linear(dim, TOKENS, bias=False)
        size = dim // heads
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, size, 2) / size)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed_tokens(tokens)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin)
        return self.lm_head(self.norm(h))


class ALBERT(nn.Module):
    """A narrow embedding, then one block repeated (Lan et al. 2020, arXiv:1909.11942)."""

    def __init__(self, dim: int = 128, repeats: int = 4) -> None:
        super().__init__()
        self.word = nn.Embedding(TOKENS, 64)
        self.position = nn.Embedding(32, 64)
        self.norm = nn.LayerNorm(64)
        self.project = nn.Linear(64, dim)
        self.block = PostNorm(dim, 4, dropout=0.0)
        self.pooler = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, 100)
        self.repeats = repeats

    def forward(self, input_ids: Tensor, token_mask: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.project(self.norm(self.word(input_ids) + self.position(positions)[None]))
        for _ in range(self.repeats):
            x = self.block(x)
        pooled = (x * token_mask[..., None]).sum(1) / token_mask.sum(1, keepdim=True)
        return self.classifier(torch.tanh(self.pooler(pooled)))


class Perceiver(nn.Module):
    """A learned array of latents reads the input by cross attention (Jaegle et al. 2021, arXiv:2103.03206)."""

    def __init__(self, dim: int = 128, latents: int = 16) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.norm_latents, self.norm_input = nn.LayerNorm(dim), nn.LayerNorm(64)
        self.cross = nn.MultiheadAttention(dim, 4, kdim=64, vdim=64, batch_first=True)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.inner = nn.TransformerEncoderLayer(dim, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 100))

    def forward(self, data: Tensor) -> Tensor:
        z = self.latents.expand(len(data), -1, -1)
        x = self.norm_input(data)
        z = z + self.cross(self.norm_latents(z), x, x, need_weights=False)[0]
        z = z + self.mlp(self.norm_mlp(z))
        return self.head(self.inner(z).mean(1))


TRANSFORMERS = (
    Architecture("ViT", ViT, lambda: torch.randn(8, 3, 32, 32), Facts(("head",), ("blocks.*",))),
    Architecture(
        "pre-norm encoder",
        PreNormEncoder,
        lambda: torch.randn(8, 16, 64),
        Facts(("head",), ("blocks.*",)),
        slow=True,
    ),
    Architecture(
        "post-norm encoder",
        PostNormEncoder,
        lambda: torch.randint(1, TOKENS, (8, 16)),
        Facts(("fc",), draws=True, branches=("layers.*",)),
    ),
    Architecture(
        "nn.TransformerEncoder, pre-norm",
        lambda: TorchEncoder(norm_first=True),
        lambda: ids(8, 16),
        Facts(("decoder",), draws=True, branches=("encoder.layers.*",)),
        slow=True,
    ),
    Architecture(
        "nn.TransformerEncoder, post-norm",
        lambda: TorchEncoder(norm_first=False),
        lambda: ids(8, 16),
        Facts(("decoder",), draws=True, branches=("encoder.layers.*",)),
        slow=True,
    ),
    Architecture(
        "GPT",
        GPT,
        lambda: {"idx": ids(8, 32), "targets": ids(8, 32)},
        Facts(
            ("lm_head",),
            draws=True,
            branches=("transformer.h.*",),
            tied=(("transformer.wte.weight", "lm_head.weight"),),
        ),
        loss=lambda output: output[1],
        slow=True,
    ),
    Architecture(
        "T5",
        T5,
        lambda: {"input_ids": ids(8, 16)},
        Facts(("lm_head",), ("block.*",), ("*norm?.weight", "final.weight")),
        slow=True,
    ),
    Architecture("LLaMA", Llama, lambda: ids(8, 16), Facts(("lm_head",), ("layers.*",))),
    Architecture(
        "ALBERT",
        ALBERT,
        lambda: (ids(16, 16), (torch.arange(16) < torch.randint(4, 17, (16, 1))).float()),
        Facts(
            ("classifier",),
            ("block.*",),
            reused=tuple(
                f"block.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "out_proj", "linear1", "linear2")
            ),
        ),
        slow=True,
    ),
    Architecture(
        "Perceiver",
        Perceiver,
        lambda: torch.randn(8, 32, 64),
        Facts(("head.1",), ("cross.*", "norm_*", "mlp.*", "inner.*")),
    ),
)

"""The demo's network in PyTorch: a Llama, written so that its weights survive four bits.

While it trains, every matrix is used with noise of about the size that IQ4_KT will add later.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Relative to the root mean square of a row. IQ4_KT's error on Gaussian rows is a tenth (docs/logbook.md).
WEIGHT_NOISE = 0.1


@dataclass(frozen=True)
class Shape:
    """Names as in GGUF. Every row of a matrix is a multiple of 256, the block of the KT types."""

    n_vocab: int
    n_layer: int = 3
    n_embd: int = 256
    n_head: int = 8
    n_ff: int = 512
    n_ctx: int = 1024
    rms_eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head


class NoisyLinear(nn.Linear):
    """A linear without bias, [n_out, n_in]; noisy while training."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, noisy(self.weight) if self.training else self.weight)


def noisy(weight: Tensor) -> Tensor:
    size = weight.detach().square().mean(dim=1, keepdim=True).sqrt() * WEIGHT_NOISE
    return weight + torch.randn_like(weight) * size


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n_embd, n_ff = shape.n_embd, shape.n_ff
        self.shape = shape
        self.attn_norm = nn.RMSNorm(n_embd, shape.rms_eps)
        self.attn_q = NoisyLinear(n_embd, n_embd)
        self.attn_k = NoisyLinear(n_embd, n_embd)
        self.attn_v = NoisyLinear(n_embd, n_embd)
        self.attn_output = NoisyLinear(n_embd, n_embd)
        self.ffn_norm = nn.RMSNorm(n_embd, shape.rms_eps)
        self.ffn_gate = NoisyLinear(n_embd, n_ff)
        self.ffn_up = NoisyLinear(n_embd, n_ff)
        self.ffn_down = NoisyLinear(n_ff, n_embd)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = x + self._attention(self.attn_norm(x), angles)
        normed = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))

    def _attention(self, x: Tensor, angles: Tensor) -> Tensor:
        n_seqs, n_tokens, n_embd = x.shape
        heads = (n_seqs, n_tokens, self.shape.n_head, self.shape.head_dim)
        q = rotated(self.attn_q(x).view(heads), angles).transpose(
            1, 2
        )  # [n_seqs, n_head, n_tokens, head_dim]
        k = rotated(self.attn_k(x).view(heads), angles).transpose(1, 2)
        v = self.attn_v(x).view(heads).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(out.transpose(1, 2).reshape(n_seqs, n_tokens, n_embd))


class Llama(nn.Module):
    """Tied embeddings: what reads the tokens also writes them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.empty(shape.n_vocab, shape.n_embd))
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.output_norm = nn.RMSNorm(shape.n_embd, shape.rms_eps)
        self._initialize()

    def forward(self, token_ids: Tensor) -> Tensor:
        """[n_seqs, n_tokens] -> logits [n_seqs, n_tokens, n_vocab]."""
        angles = rope_angles(self.shape, token_ids.shape[1])
        x = F.embedding(token_ids, self.token_embd)
        for block in self.blk:
            x = block(x, angles)
        return F.linear(self.output_norm(x), self.token_embd)

    def _initialize(self) -> None:
        """GPT-2's: matrices that write into the residual stream begin smaller."""
        nn.init.normal_(self.token_embd, std=0.02)
        into_stream = 0.02 / (2 * self.shape.n_layer) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.normal_(weight, std=into_stream)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)


def rope_angles(shape: Shape, n_tokens: int) -> Tensor:
    """e^(i angle) of every position and pair, complex [n_tokens, 1, head_dim / 2]."""
    freqs = shape.rope_base ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
    angles = torch.arange(n_tokens, dtype=torch.float64)[:, None] * freqs
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)[:, None, :]


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair (2i, 2i + 1) of a head turned by its angle, as GGUF `llama` files have it. x [..., head_dim]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * angles).flatten(-2)

"""GLM-5: latent attention, experts chosen by sigmoids, and indexers that pick the tokens a token attends to.

An indexer picks the top_k tokens of the best scores; a layer without one takes the choice of the layer before it. Up
to top_k tokens all are picked and attention is dense: where a backend has no indexer, requests are held to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.batch import Batch
from engine.errors import ModelFileError
from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_HEADS, MAX_WIDTH
from engine.models.decoder import Decoder
from engine.models.latent import LatentAttention, LatentConfig, build_latent_decoder, read_latent
from engine.models.latent import skipped as skipped_of_latent
from engine.models.weight_source import WeightSource
from kernels.batches import Array, LayerCache
from kernels.cache_groups import LatentGroup
from kernels.ops import Ops
from kernels.quant_tensor import QuantTensor

MAX_TOP_K = 1 << 20
#: Of the norm of an indexer's keys, whatever the file says of the others: what transformers' class always takes.
KEY_NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class DsaConfig(LatentConfig):
    """index_*: heads of an indexer, their width, and the tokens it picks. is_dense: no indexer runs."""

    index_n_head: int
    index_dim: int
    index_top_k: int
    is_dense: bool = False

    @property
    def n_ctx_max(self) -> int:
        longest = super().n_ctx_max
        return min(longest, self.index_top_k) if self.is_dense else longest

    def on(self, ops: Ops) -> "DsaConfig":
        return self if ops.has_indexer else replace(self, is_dense=True)

    @property
    def context_limit(self) -> str:
        return "beyond them an indexer would choose, which this device does not run"


@dataclass(frozen=True)
class Indexer:
    """GGUF names without `blk.{i}.indexer.`."""

    config: DsaConfig
    attn_q_b: QuantTensor  # [index_n_head * index_dim, q_lora_rank]
    attn_k: QuantTensor  # [index_dim, n_embd]
    k_norm: Array  # [index_dim]
    k_norm_bias: Array  # [index_dim]
    proj: QuantTensor  # [index_n_head, n_embd]

    def choose(
        self, ops: Ops, x: Array, q_a: Array, *, angles: Array, batch: Batch, cache: LayerCache
    ) -> Array:
        """The positions that each token sees, int32 [n_tokens, index_top_k]: `Ops.choose_keys`.

        The published scores are divided by sqrt(index_n_head * index_dim), which changes no choice.
        """
        n_tokens, n_head, dim = batch.n_tokens, self.config.index_n_head, self.config.index_dim
        q = ops.linear(q_a, self.attn_q_b).reshape(n_tokens, n_head, dim)
        k, weights = ops.linear_many(x, [self.attn_k, self.proj])
        k = ops.layer_norm(k, self.k_norm, self.k_norm_bias, KEY_NORM_EPS).reshape(n_tokens, 1, dim)
        k = ops.rope(k, angles, interleaved=True).reshape(n_tokens, dim)
        ops.store_latent(k, cache, batch.slots)
        q = ops.rope(q, angles, interleaved=True)
        return ops.choose_keys(q, weights, cache, batch.attention, self.config.index_top_k)


@dataclass(frozen=True, kw_only=True)
class DsaDecoder(Decoder):
    """indexers: one for each layer, None where the last choice holds. Their keys are the second group of caches."""

    indexers: tuple[Indexer | None, ...]

    def forward(self, ops: Ops, batch: Batch, caches: Sequence[Sequence[LayerCache]]) -> Array:
        eps, chosen = self.config.rms_eps, None
        angles = ops.rope_angles(batch.positions, self.rope.freqs, self.rope.mscale)
        x = ops.embed(self.token_embd, batch.token_ids)  # [n_tokens, n_embd]
        latents, index_keys = caches[0], iter(caches[1])
        for layer, indexer, cache in zip(self.layers, self.indexers, latents, strict=True):
            attention = layer.attention
            assert isinstance(attention, LatentAttention)
            normed = ops.rms_norm(x, layer.attn_norm, eps)
            parts = attention.projected(ops, normed)
            if indexer is not None:
                keys = next(index_keys)
                chosen = indexer.choose(ops, normed, parts.q_a, angles=angles, batch=batch, cache=keys)
            x = attention.attend(
                ops, parts, angles=angles, batch=batch, cache=cache, residual=x, chosen=chosen
            )
            x = layer.ffn.forward(ops, ops.rms_norm(x, layer.ffn_norm, eps), residual=x)
        return ops.rms_norm(ops.take_rows(x, batch.hidden_rows), self.output_norm, eps)


def read_config(keys: MetadataReader) -> DsaConfig:
    fields = read_latent(keys, gating="sigmoid")
    return DsaConfig(
        **fields,
        index_n_head=keys.integer("attention.indexer.head_count", 1, MAX_HEADS),
        index_dim=keys.integer("attention.indexer.key_length", fields["rope"].n_rot, MAX_WIDTH),
        index_top_k=keys.integer("attention.indexer.top_k", 1, MAX_TOP_K),
    )


def build(config: DsaConfig, weights: WeightSource) -> Decoder:
    decoder = build_latent_decoder(config, weights)
    if config.is_dense:
        return decoder
    indexers = tuple(_indexer(config, weights, i) for i in range(config.n_layer))
    n_indexers = sum(indexer is not None for indexer in indexers)
    keys = LatentGroup(n_indexers, config.index_dim, config.index_dim, is_exact=True)
    return DsaDecoder(**vars(decoder) | {"groups": (*decoder.groups, keys), "indexers": indexers})


def _indexer(config: DsaConfig, weights: WeightSource, i: int) -> Indexer | None:
    """That of layer i, which the first layer has and any other may."""
    prefix, dim, n_head = f"blk.{i}.indexer.", config.index_dim, config.index_n_head
    names = [prefix + name for name in ("attn_q_b.weight", "attn_k.weight", "k_norm.weight", "k_norm.bias")]
    if i > 0 and not any(weights.has(name) for name in [*names, prefix + "proj.weight"]):
        return None
    if not weights.has(f"blk.{i}.attn_q_a.weight"):
        raise ModelFileError(f"tensor 'blk.{i}.attn_q_a.weight' is missing; its indexer needs one")
    return Indexer(
        config=config,
        attn_q_b=weights.matrix(names[0], n_head * dim, config.q_lora_rank),
        attn_k=weights.matrix(names[1], dim, config.n_embd),
        k_norm=weights.vector(names[2], dim),
        k_norm_bias=weights.vector(names[3], dim),
        proj=weights.matrix(prefix + "proj.weight", n_head, config.n_embd),
    )


def skipped(config: DsaConfig) -> dict[str, str]:
    """And indexers where none runs."""
    indexers = {"blk.*.indexer.*": "an indexer, which picks all tokens of such contexts"}
    return skipped_of_latent(config) | (indexers if config.is_dense else {})

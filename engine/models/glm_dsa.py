"""GLM-5: latent attention, experts chosen by sigmoids, and an indexer that picks the tokens a token attends to.

Up to the indexer's top_k tokens it picks all of them, and attention is dense: this build runs requests as long as
that.
"""

from dataclasses import dataclass

from engine.metadata_reader import MetadataReader
from engine.models.latent import LatentConfig, read_latent
from engine.models.latent import build_latent_decoder as build
from engine.models.latent import skipped as skipped_of_latent

__all__ = ["build", "read_config", "skipped"]


@dataclass(frozen=True, kw_only=True)
class DsaConfig(LatentConfig):
    """top_k: tokens that the indexer picks."""

    top_k: int

    @property
    def n_ctx_max(self) -> int:
        return min(super().n_ctx_max, self.top_k)

    @property
    def context_limit(self) -> str:
        return "beyond them an indexer would choose, which this build does not run"


def read_config(keys: MetadataReader) -> DsaConfig:
    fields = read_latent(keys, gating="sigmoid")
    for name in ("head_count", "key_length"):
        keys.integer(f"attention.indexer.{name}", 1, 1 << 16, default=1)
    return DsaConfig(**fields, top_k=keys.integer("attention.indexer.top_k", 1, 1 << 30))


def skipped(config: DsaConfig) -> dict[str, str]:
    """And the indexer, which has nothing to choose among so few tokens."""
    return skipped_of_latent(config) | {
        "blk.*.indexer.*": "an indexer, which picks all tokens of such contexts"
    }

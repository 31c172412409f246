"""DeepSeek V2 Lite, V3 and R1, Kimi-K2, GLM-4.7-Flash: latent attention, shared experts, the first layers dense.

A file that does not say how experts are chosen is V2's, by a softmax; with 47 or 48 layers it is GLM-4.7-Flash, by
sigmoids. Files of V3 often leave out that its 256 experts are 8 groups, of which each token uses 4.
"""

from dataclasses import replace

from engine.metadata_reader import MetadataReader
from engine.models.config import MAX_LAYERS
from engine.models.experts import ExpertsConfig
from engine.models.latent import LatentConfig, read_latent, skipped
from engine.models.latent import build_latent_decoder as build

__all__ = ["build", "read_config", "skipped"]

FLASH_LAYERS = (47, 48)
V3_EXPERTS, V3_GROUPS, V3_GROUPS_USED = 256, 8, 4


def read_config(keys: MetadataReader) -> LatentConfig:
    gating = "sigmoid" if keys.integer("block_count", 1, MAX_LAYERS) in FLASH_LAYERS else "softmax"
    fields = read_latent(keys, gating=gating)
    return LatentConfig(**fields | {"experts": _with_groups(keys, fields["experts"])})


def _with_groups(keys: MetadataReader, experts: ExpertsConfig) -> ExpertsConfig:
    """Raises ModelFileError for a softmax over groups: V2 goes by the best expert of each, which no op here does."""
    routing = experts.routing
    if routing.n_group > 1 and routing.gating == "softmax":
        raise keys.error("expert_group_count", "1 is needed where experts are chosen by a softmax")
    silent = not keys.has("expert_group_count")
    if silent and routing.gating == "sigmoid" and experts.n_expert == V3_EXPERTS:
        routing = routing._replace(n_group=V3_GROUPS, n_group_used=V3_GROUPS_USED)
    return replace(experts, routing=routing)

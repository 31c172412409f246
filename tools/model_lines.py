"""What `espalier inspect` says of a model: its parts, what a token meets, what a request takes, what is left out."""

from engine import EspalierError, ModelFileError
from engine.kv_cache import CacheShape
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from engine.loading.weight_plan import LoadPlan, plan_weights
from engine.models.config import ModelConfig
from engine.models.experts import MoeConfig
from engine.models.glm_dsa import DsaConfig
from engine.models.latent import LatentConfig
from tools.terminal import printable


def model_lines(gguf: GGUFFile, ctx_size: int | None, kv_type: str) -> list[str]:
    """Raises EspalierError for a ctx_size that the model was not trained for."""
    try:
        config = read_config(gguf)
        plan = plan_weights(gguf, config, {})
    except ModelFileError as error:
        return [f"model: not run by this build: {printable(str(error))}"]
    n_ctx = config.n_ctx_max if ctx_size is None else ctx_size
    if not 1 <= n_ctx <= config.n_ctx_max:
        raise EspalierError(
            f"--ctx-size {n_ctx}: 1 to {config.n_ctx_max} tokens, what the model was trained for"
        )
    return [
        *_network_lines(config),
        *_parameter_lines(gguf, config, plan),
        *_memory_lines(gguf, plan, n_ctx, kv_type),
    ]


def size_text(nbytes: int) -> str:
    unit, scale = next(
        ((unit, scale) for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)) if nbytes >= scale),
        ("KiB", 1 << 10),
    )
    return f"{nbytes / scale:.2f} {unit}"


def _network_lines(config: ModelConfig) -> list[str]:
    rope = config.rope
    scaling = "" if rope.scaling == "none" else f", {rope.scaling} scaling by {rope.factor:g}"
    return [
        f"model: {config.architecture}, {config.n_layer} layers, n_embd {config.n_embd}, n_ff {config.n_ff}",
        *_heads_lines(config),
        *([_experts_line(config)] if isinstance(config, MoeConfig) else []),
        f"  context: {config.n_ctx_train} tokens trained, rope base {rope.freq_base:g}{scaling}",
    ]


def _heads_lines(config: ModelConfig) -> list[str]:
    n_head, head_dim = config.n_head, config.head_dim
    if not isinstance(config, LatentConfig):
        return [f"  heads: {n_head} of queries, {config.n_head_kv} of keys and values, {head_dim} wide"]
    latent = f"a latent of {config.kv_lora_rank} and {config.rope.n_rot} rotated"
    lines = [f"  heads: {n_head}, {head_dim} wide, over {latent}; values {config.value_dim} wide"]
    if isinstance(config, DsaConfig):
        heads = f"{config.index_n_head} heads of {config.index_dim}"
        lines.append(f"  indexers: {config.index_top_k} tokens picked for each, by {heads}")
    return lines


def _experts_line(config: MoeConfig) -> str:
    experts, routing = config.experts, config.experts.routing
    where = f" after {config.n_dense_layers} dense layers" if config.n_dense_layers else ""
    groups = (
        f", from {routing.n_group_used} of {routing.n_group} groups"
        if routing.n_group_used < routing.n_group
        else ""
    )
    shared = f", and shared ones of {experts.n_ff_shared}" if experts.n_ff_shared else ""
    return (
        f"  experts{where}: {routing.n_used} of {experts.n_expert} for each token{groups}, "
        f"n_ff {experts.n_ff}{shared}; gating {routing.gating}"
    )


def _parameter_lines(gguf: GGUFFile, config: ModelConfig, plan: LoadPlan) -> list[str]:
    """All parameters of the file; those that a token is multiplied with; those that are left out."""
    n_in_file = sum(tensor.shape[0] * tensor.n_rows for tensor in gguf.tensors.values())
    left_out: dict[str, int] = {}
    for name, what in plan.skipped.items():
        tensor = gguf.tensors[name]
        left_out[what] = left_out.get(what, 0) + tensor.shape[0] * tensor.n_rows
    active = f", {_billions(_n_active(config, plan))} of them active for a token"
    return [
        f"  parameters: {_billions(n_in_file)}{active if isinstance(config, MoeConfig) else ''}",
        *(f"  left out: {_billions(n)} parameters, {what}" for what, n in left_out.items()),
    ]


def _n_active(config: ModelConfig, plan: LoadPlan) -> int:
    """Weights of the matrices that one token meets: of experts its share, and of the embedding a row."""
    n_active = 0
    for matrix in plan.matrices:
        tensor_name, n_weights = matrix.tensor.name, 1
        for n in matrix.shape:
            n_weights *= n
        if isinstance(config, MoeConfig) and tensor_name.endswith("_exps.weight"):
            n_weights = n_weights * config.experts.routing.n_used // config.experts.n_expert
        elif "linear" not in matrix.uses:
            n_weights = config.n_embd
        n_active += n_weights
    return n_active


def _memory_lines(gguf: GGUFFile, plan: LoadPlan, n_ctx: int, kv_type: str) -> list[str]:
    caches = CacheShape(plan.model.cache_groups(), kv_type)
    kv_bytes, state_bytes = n_ctx * caches.block_bytes(1), caches.slot_bytes
    weights = sum(tensor.nbytes for name, tensor in gguf.tensors.items() if name not in plan.skipped)
    state = f"  recurrent state: {size_text(state_bytes)} for each request, of any length"
    return [
        f"files: {len(gguf.files)}, {size_text(gguf.size)}",
        f"memory for one request of {n_ctx} tokens: {size_text(weights + kv_bytes + state_bytes)}",
        f"  weights: {size_text(weights)}, at most a tenth more once packed",
        f"  keys and values, {kv_type}: {size_text(kv_bytes)} for each request of that length",
        *([state] if state_bytes else []),
    ]


def _billions(n: int) -> str:
    return f"{n / 1e9:.2f} B" if n >= 1e8 else f"{n / 1e6:.2f} M"

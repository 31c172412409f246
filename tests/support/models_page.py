"""The tables of docs/models.md on published models: `PYTHONPATH=tests:. python -m support.models_page` writes them.

Sizes are arithmetic on the tensor lists (published_models.py), caches on their keys; the engine's own figures judge
both in tests/docs/test_models_page.py. Nothing here is measured.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kernels.quant_tensor import FILE_TYPES
from support.published_models import NAMES, ListedTensor, PublishedModel, read_published
from tools.reference_tables import markdown_table

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
START, END = "<!-- models: written by `make docs` -->", "<!-- end of models -->"
KT_TYPES = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT")
CONTEXT = 8192  # tokens of the one request that the figures allow for
LOADING = 1.1  # a backend's form of a type takes at most a tenth more than the file's
PROCESS = 1 << 29  # bytes: interpreter, vocabulary, logits
MEMORIES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # GiB
GIB, MIB = 1 << 30, 1 << 20
F16, F32 = 2, 4  # bytes


def computed(model: PublishedModel) -> list[ListedTensor]:
    """The tensors that are loaded: not those of layers for predicting further tokens."""
    return [t for t in model.tensors if _layer(t) < model.n_layer]


def _layer(tensor: ListedTensor) -> int:
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(layer[1]) if layer else 0


def weight_bytes(tensors: Iterable[ListedTensor], kt_type: str) -> int:
    """Where each IQ4_KT matrix is of another KT type; the others stay as they are published."""
    quant_type = FILE_TYPES[kt_type]
    sizes = (
        quant_type.matrix_bytes(t.n_rows, t.shape[0]) if t.type_name == "IQ4_KT" else t.nbytes
        for t in tensors
    )
    return sum(sizes)


def token_bytes(model: PublishedModel) -> int:
    """What a cached token takes: in f16 a latent row a layer, or a key and a value in each full attention; a float32
    key an indexer.
    """
    if (latent := model.key("attention.kv_lora_rank")) is not None:
        n_indexers = sum(t.name.endswith(".indexer.proj.weight") for t in computed(model))
        keys = n_indexers * model.key("attention.indexer.key_length", 0)
        return F16 * model.n_layer * (latent + model.key("rope.dimension_count")) + F32 * keys
    n_layer = model.n_layer // model.key("full_attention_interval", 1)
    width = model.key("attention.key_length") + model.key("attention.value_length")
    return F16 * n_layer * model.key("attention.head_count_kv") * width


def state_bytes(model: PublishedModel) -> int:
    """A request's recurrent state: a square matrix a head and the last inputs of the convolution, layer by layer."""
    if (interval := model.key("full_attention_interval")) is None:
        return 0
    width = model.key("ssm.state_size")
    n_channels = 2 * model.key("ssm.group_count") * width + model.key("ssm.inner_size")
    matrices = model.key("ssm.time_step_rank") * width * width
    taps = (model.key("ssm.conv_kernel") - 1) * n_channels
    return F32 * (model.n_layer - model.n_layer // interval) * (matrices + taps)


def needed_bytes(model: PublishedModel, kt_type: str) -> float:
    """With one request of CONTEXT tokens."""
    weights = LOADING * weight_bytes(computed(model), kt_type)
    return weights + CONTEXT * token_bytes(model) + state_bytes(model) + PROCESS


def tables() -> str:
    shown = (read_published(name) for name in NAMES if "(" not in name)  # other forms take what they do
    needs = [(model, [needed_bytes(model, kt_type) for kt_type in KT_TYPES]) for model in shown]
    needs.sort(key=lambda need: need[1][-1])
    types = [name.removesuffix("_KT") for name in KT_TYPES]
    sizes = markdown_table(
        ("model", "architecture", *types, "IQ4, not experts", "1024 tokens", "state", "published, GB"),
        (_size_row(model) for model, _ in needs),
    )
    rows = [row for memory in MEMORIES if (row := _memory_row(memory, needs))[1]]
    fitting = markdown_table(("GiB", "the largest type that fits"), rows)
    return f"{sizes}\n\n{fitting}"


def _size_row(model: PublishedModel) -> tuple[str, ...]:
    tensors = computed(model)
    weights = [f"{weight_bytes(tensors, kt_type) / GIB:.1f}" for kt_type in KT_TYPES]
    rest = weight_bytes([t for t in tensors if "_exps." not in t.name], "IQ4_KT")
    has_experts = model.key("expert_count", 0) > 0
    cached, state = 1024 * token_bytes(model) / MIB, state_bytes(model) / MIB
    return (
        model.name,
        f"`{model.architecture}`",
        *weights,
        f"{rest / GIB:.1f}" if has_experts else "",
        f"{cached:.0f}",
        f"{state:.0f}" if state else "",
        _recipes(model),
    )


def _recipes(model: PublishedModel) -> str:
    if model.kt_recipes is None:
        return ""
    n, low, high = (model.kt_recipes[key] for key in ("n", "smallest_gb", "largest_gb"))
    return f"{low} to {high} ({n})" if low != high else f"{low} ({n})"


def _memory_row(memory: int, needs: Sequence[tuple[PublishedModel, Sequence[float]]]) -> tuple[str, str]:
    """Only models that it holds in a larger type than the next smaller memory does. needs: bytes by KT_TYPES."""
    smaller = max((m for m in MEMORIES if m < memory), default=0)
    better = [
        f"{model.name} {KT_TYPES[n - 1][:3]}"
        for model, sizes in needs
        if (n := _n_fitting(sizes, memory)) > _n_fitting(sizes, smaller)
    ]
    return str(memory), ", ".join(better)


def _n_fitting(sizes: Sequence[float], memory: int) -> int:
    return sum(size <= memory * GIB for size in sizes)


def page() -> str:
    """The page with its tables as they are now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{before}{START}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

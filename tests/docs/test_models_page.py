"""docs/models.md on published models: its tables are what the lists give, and the engine agrees with the figures."""

import pytest

from engine.kv_cache import CacheShape
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import read_config
from engine.loading.weight_plan import plan_weights
from support.models_page import (
    KT_TYPES,
    PAGE,
    computed,
    needed_bytes,
    page,
    state_bytes,
    token_bytes,
    weight_bytes,
)
from support.published_models import NAMES, read_published, write_hollow


def test_the_committed_tables_are_what_the_lists_give():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/models.md is stale: run `make docs`"


@pytest.mark.parametrize("name", [name for name in NAMES if "halves" not in name])
def test_the_engine_takes_what_the_page_says(name, tmp_path):
    model = read_published(name)
    with GGUFFile.open(write_hollow(model, tmp_path / "m.gguf")) as gguf:
        plan = plan_weights(gguf, read_config(gguf), {})
        loaded = {name: tensor.nbytes for name, tensor in gguf.tensors.items() if name not in plan.skipped}
    shape = CacheShape(plan.model.cache_groups())
    assert shape.block_bytes(1) == token_bytes(model)
    assert shape.slot_bytes == state_bytes(model)
    assert sum(loaded.values()) == weight_bytes(computed(model), "IQ4_KT")


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_type_needs_more(name):
    model = read_published(name)
    sizes = [needed_bytes(model, kt_type) for kt_type in KT_TYPES]
    assert sizes == sorted(sizes)

"""Rows of any tokens: several a sequence in a recorded pass, prompts' log-probabilities, hidden states."""

from pathlib import Path

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.batch import Chunk
from engine.forward import ForwardPass
from engine.kv_cache import CacheShape
from engine.loading import LoadedModel, load_model
from engine.prompt_reads import ROWS_AT_ONCE
from engine.types import PromptReads, TokenEvent
from kernels.ops import Ops
from support.forward_pass import logits_of, new_caches
from support.tiny_models import write_tiny_llama

BLOCK_SIZE = 16


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "model.gguf", n_layer=1)


@pytest.fixture(scope="module")
def loaded(ops: Ops, tiny: Path) -> LoadedModel:
    return load_model(tiny, ops)


def new_forward(loaded: LoadedModel) -> ForwardPass:
    return ForwardPass(loaded.model, loaded.ops, new_caches(loaded, 12, BLOCK_SIZE), BLOCK_SIZE)


def test_a_decode_step_of_several_tokens_a_sequence_gives_the_bits_of_one_by_one(loaded: LoadedModel) -> None:
    """Recorded and replayed, with a number of sequences that is padded on a GPU."""
    rng = np.random.default_rng(3)
    token_ids = rng.integers(3, loaded.config.n_vocab, (3, 40)).tolist()
    blocks = rng.permutation(12).reshape(3, 4).tolist()
    together, one_by_one = new_forward(loaded), new_forward(loaded)
    n_cached = [0, 0, 0]
    for lengths in ([2, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]):
        ends = [n + length for n, length in zip(n_cached, lengths, strict=True)]
        pieces = [ids[n:end] for ids, n, end in zip(token_ids, n_cached, ends, strict=True)]
        chunks = [Chunk(p, n, b, len(p)) for p, n, b in zip(pieces, n_cached, blocks, strict=True)]
        got = together.run(chunks)
        assert got is not None
        got, rows = got.copy(), iter(range(sum(lengths)))
        numbers = [[next(rows) for _ in piece] for piece in pieces]
        for i in range(max(lengths)):
            running = [j for j in range(3) if i < lengths[j]]
            single = one_by_one.run(
                [Chunk(pieces[j][i : i + 1], n_cached[j] + i, blocks[j]) for j in running]
            )
            np.testing.assert_array_equal(single, got[[numbers[j][i] for j in running]])
        n_cached = ends


def read(loaded: LoadedModel, prompt: list[int], reads: PromptReads, **sizes: int) -> list[TokenEvent]:
    engine = Engine(loaded, EngineConfig(max_batch=4, kv_memory_bytes=1 << 20, **sizes))
    engine.add("other", prompt[::-1], SamplingParams(temperature=0, max_tokens=3, ignore_eos=True))
    engine.add("read", prompt, SamplingParams(temperature=0, max_tokens=4, ignore_eos=True), reads)
    events = []
    while engine.has_work:
        events += [event for event in engine.step() if event.request_id == "read"]
    return events


@pytest.mark.slow
@pytest.mark.parametrize("step_tokens", [16, 512])
def test_a_prompt_s_log_probabilities_are_those_of_its_logits(loaded: LoadedModel, step_tokens: int) -> None:
    """In chunks and in one pass, beside another request; more tokens than logits are made at once."""
    prompt = np.random.default_rng(1).integers(3, loaded.config.n_vocab, ROWS_AT_ONCE + 9).tolist()
    logits = logits_of(loaded, prompt).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    logprobs -= logits.max(1, keepdims=True)
    events = read(loaded, prompt, PromptReads(logprobs=2), step_tokens=step_tokens)
    got = [each for event in events for each in event.prompt_logprobs]
    assert len(got) == len(prompt) - 1, "the first token has no row before it"
    for row, token_id, each in zip(logprobs, prompt[1:], got, strict=False):
        assert each.logprob == pytest.approx(row[token_id], abs=1e-5)  # float32
        assert [token for token, _ in each.top] == np.argsort(-row, kind="stable")[:2].tolist()


@pytest.mark.parametrize("step_tokens", [8, 512])
def test_a_prompt_s_hidden_states_are_the_model_s_last_ones(loaded: LoadedModel, step_tokens: int) -> None:
    prompt = np.random.default_rng(2).integers(3, loaded.config.n_vocab, 21).tolist()
    hidden = new_forward(loaded).hidden_rows([Chunk(prompt, 0, [3, 1], len(prompt))])
    expected = np.array(loaded.ops.to_host(hidden))
    events = read(loaded, prompt, PromptReads(hidden=True), step_tokens=step_tokens)
    got = np.concatenate([event.hidden for event in events if event.hidden is not None])
    np.testing.assert_array_equal(got, expected)


def test_reading_a_prompt_changes_no_token_of_the_answer(loaded: LoadedModel) -> None:
    prompt = [5, 9, 4, 7, 11, 3]
    plain = read(loaded, prompt, PromptReads())
    reading = read(loaded, prompt, PromptReads(logprobs=0, hidden=True))
    assert [t for e in reading for t in e.token_ids] == [t for e in plain for t in e.token_ids]
    assert reading[-1].finish_reason == plain[-1].finish_reason == "length"


def test_a_prompt_that_is_computed_again_is_read_once(tiny: Path, cpu_ops: Ops) -> None:
    """Two requests and blocks for one and a half: the younger is preempted, and its answer is whole all the same."""
    loaded = load_model(tiny, cpu_ops)
    block_bytes = CacheShape(loaded.model.cache_groups()).block_bytes(BLOCK_SIZE)
    config = EngineConfig(
        max_batch=2, kv_block_size=BLOCK_SIZE, kv_memory_bytes=7 * block_bytes, ctx_size=6 * BLOCK_SIZE
    )
    engine = Engine(loaded, config)
    params = SamplingParams(temperature=0, max_tokens=50, ignore_eos=True)
    engine.add("older", [5] * 30, params)
    engine.add("younger", [6] * 30, params, PromptReads(logprobs=0))
    n_read, n_running = 0, []
    while engine.has_work:
        n_read += sum(len(event.prompt_logprobs) for event in engine.step() if event.request_id == "younger")
        n_running.append(engine.stats().n_running)
    assert 1 in n_running[2:-2], "the younger one lost its blocks"
    assert n_read == 29

"""A whole model on the emulated GPU: the CPU backend's bits, from prefill to sampled text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.batch import Chunk
from engine.errors import ResourceError
from engine.forward import ForwardPass
from engine.loading import LoadedModel, load_model
from kernels import load_backend
from kernels.cache_groups import PagedGroup
from kernels.cuda import form_choice
from kernels.cuda.arena import INDEX_BYTES
from kernels.kv_type import KV_TYPES
from kernels.ops import Ops
from support.cuda_device import ON_CARD, cuda_device
from support.fake_cupy import Machine
from support.forward_pass import new_caches
from support.tiny_models import write_tiny_llama

BLOCK_SIZE = 16
N_BLOCKS = 24  # more than the sequences use, so that their blocks can lie anywhere


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


@pytest.fixture(scope="module")
def cuda_ops(machine: Machine) -> Iterator[Ops]:
    with cuda_device(machine):
        yield load_backend("cuda")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "model.gguf", n_layer=1)


class Sequences:
    """Three sequences over one cache, advanced by as many tokens of each as a pass asks for."""

    def __init__(self, loaded: LoadedModel, block_size: int = BLOCK_SIZE) -> None:
        config = loaded.config
        self._forward = ForwardPass(
            loaded.model, loaded.ops, new_caches(loaded, N_BLOCKS, block_size), block_size
        )
        rng = np.random.default_rng(7)
        self._blocks = rng.permutation(N_BLOCKS).reshape(3, -1).tolist()
        self._token_ids = rng.integers(3, config.n_vocab, (3, 128)).tolist()
        self._n_cached = [0, 0, 0]

    def run(self, lengths: dict[int, int]) -> np.ndarray:
        """Logits of the last token of each sequence in lengths."""
        chunks = []
        for i, n in lengths.items():
            first = self._n_cached[i]
            self._n_cached[i] += n
            chunks.append(Chunk(self._token_ids[i][first : first + n], first, self._blocks[i]))
        logits = self._forward.run(chunks)
        assert logits is not None
        return logits.copy()


#: Tokens of each sequence in each pass: a prompt of two pieces beside others that begin and decode, then ragged
#: decode steps of two and of three sequences, often enough that each kind is recorded and replayed.
PASSES = (
    [{0: 5}, {0: 12, 1: 20}, {0: 1, 1: 1, 2: 40}] + [{0: 1, 2: 1}] * 3 + [{2: 1, 0: 1, 1: 1}] * 4 + [{1: 1}]
)


def passes_of(path: Path, ops: Ops, block_size: int = BLOCK_SIZE) -> list[np.ndarray]:
    sequences = Sequences(load_model(path, ops), block_size)
    return [sequences.run(lengths) for lengths in PASSES]


def test_prefill_and_ragged_decodes_give_the_cpu_s_logits(tiny: Path, cpu_ops: Ops, cuda_ops: Ops) -> None:
    # Equal, not close: both backends compute one formula in one order (docs/cuda.md).
    for on_cpu, on_gpu in zip(passes_of(tiny, cpu_ops), passes_of(tiny, cuda_ops), strict=True):
        np.testing.assert_array_equal(on_gpu, on_cpu)


@pytest.mark.slow
@pytest.mark.skipif(ON_CARD, reason="a card has its own clock")
def test_whatever_forms_a_card_finds_fastest_the_logits_are_the_cpu_s(
    tiny: Path, cpu_ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are found while steps are recorded. The device's clock is exact: one sample is the median."""
    monkeypatch.setattr(form_choice, "SAMPLES", 1)
    fastest = Machine(
        kernel_seconds={"kt_dmmv_1": 2.0, "kt_dmmv_1_narrow": 2.0, "kt_dmmv_8": 2.0, "linear_plain": 1.0}
    )
    with cuda_device(fastest):
        on_gpu = passes_of(tiny, load_backend("cuda"))
    for cpu, gpu in zip(passes_of(tiny, cpu_ops), on_gpu, strict=True):
        np.testing.assert_array_equal(gpu, cpu)
    assert "kt_dmmv_dp4a" in fastest.launched


@pytest.mark.slow
def test_with_two_planes_of_activations_the_logits_are_the_cpu_s(tiny: Path) -> None:
    with cuda_device():
        on_gpu = passes_of(tiny, load_backend("cuda", planes=2))
    on_cpu = passes_of(tiny, load_backend("cpu", threads=2, planes=2))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_array_equal(gpu, cpu)
    one_plane = passes_of(tiny, load_backend("cpu", threads=2))
    assert not np.array_equal(on_cpu[0], one_plane[0]), "a second plane that changes nothing"


@pytest.mark.skipif(ON_CARD, reason="the emulated device counts allocations")
def test_a_recorded_decode_step_takes_no_memory(tiny: Path, cuda_ops: Ops, machine: Machine) -> None:
    sequences = Sequences(load_model(tiny, cuda_ops))
    for lengths in PASSES[:6]:  # the last three of one kind: seen, recorded, replayed
        sequences.run(lengths)
    before, n_kernels = machine.n_allocations, len(machine.launched)
    sequences.run({0: 1, 2: 1})
    assert machine.n_allocations == before
    assert len(machine.launched) > n_kernels, "the replay ran its kernels"


def texts(
    loaded: LoadedModel, kv_type: str, max_batch: int = 2, block_size: int = BLOCK_SIZE
) -> dict[str, list[int]]:
    """Requests that come and go: greedy, and drawn in every way."""
    config = EngineConfig(
        max_batch=max_batch, kv_block_size=block_size, step_tokens=24, ctx_size=64, kv_type=kv_type
    )
    engine = Engine(loaded, config)
    rng = np.random.default_rng(3)
    for name, params in {
        "greedy": SamplingParams(temperature=0, max_tokens=5, ignore_eos=True),
        "sampled": SamplingParams(temperature=0.9, top_p=0.9, seed=11, max_tokens=7, ignore_eos=True),
        "drawn": SamplingParams(
            temperature=1.1, top_k=20, min_p=0.01, seed=2**64 - 1, max_tokens=9, ignore_eos=True
        ),
        "penalized": SamplingParams(
            temperature=1.2,
            top_k=40,
            presence_penalty=1.0,
            repetition_penalty=1.2,
            logit_bias={5: 1.0},
            seed=5,
            max_tokens=8,
            ignore_eos=True,
        ),
    }.items():
        engine.add(name, rng.integers(3, loaded.config.n_vocab, 19).tolist(), params)
    got: dict[str, list[int]] = {}
    while engine.has_work:
        for event in engine.step():
            assert event.finish_reason != "error", event.error
            got.setdefault(event.request_id, []).extend(event.token_ids)
    engine.check_integrity()
    return got


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_sampled_continuations_are_the_cpu_s(tiny: Path, cpu_ops: Ops, cuda_ops: Ops, kv_type: str) -> None:
    assert texts(load_model(tiny, cuda_ops), kv_type) == texts(load_model(tiny, cpu_ops), kv_type)


@pytest.mark.slow
@pytest.mark.parametrize("kv_type", [pytest.param("f16", marks=pytest.mark.slow), "q8_0"])
def test_with_attention_on_tensor_cores_a_request_continues_in_company_as_alone(
    tiny: Path, tensor_ops: Ops, kv_type: str
) -> None:
    """Prompts in other pieces, decode steps of other sizes, recorded and replayed: the same tokens."""
    loaded = load_model(tiny, tensor_ops)
    alone, in_company = (texts(loaded, kv_type, max_batch, 32) for max_batch in (1, 4))
    assert alone == in_company


def test_with_attention_on_tensor_cores_logits_are_near_the_cpu_s(
    tiny: Path, cpu_ops: Ops, tensor_ops: Ops
) -> None:
    """Attention outputs that differ by 1e-6 are now and then rounded to another int8, which moves an activation by a
    127th of the largest of its block, and the logits by some thousandths of their size.
    """
    cpu, gpu = (passes_of(tiny, ops, block_size=32) for ops in (cpu_ops, tensor_ops))
    for on_cpu, on_gpu in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=0.01 * float(np.abs(on_cpu).max()))


GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


def greedy_texts(loaded: LoadedModel) -> dict[str, list[int]]:
    """Three greedy requests: the first comes alone with a prompt longer than a step, so that a pass has no row to
    choose from; the last joins while the others decode.
    """
    engine = Engine(loaded, EngineConfig(max_batch=4, kv_block_size=BLOCK_SIZE, step_tokens=24, ctx_size=64))
    rng = np.random.default_rng(4)
    prompts = [rng.integers(3, loaded.config.n_vocab, n).tolist() for n in (5, 19, 30)]
    got: dict[str, list[int]] = {}
    for i in range(30):
        if i in (0, 1, 6):
            engine.add(str(i), prompts.pop(), GREEDY)
        for event in engine.step():
            assert event.finish_reason != "error", event.error
            got.setdefault(event.request_id, []).extend(event.token_ids)
    assert not engine.has_work
    return got


@pytest.mark.slow
def test_a_step_may_have_more_changes_of_logits_than_the_memory_of_its_first_steps(
    tiny: Path, cpu_ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every token that a request has is one: the memory grows when decode steps have long been recorded."""
    monkeypatch.setattr("kernels.cuda.arena.INDEX_BYTES", 3584)
    params = replace(GREEDY, max_tokens=20, repetition_penalty=1.3)
    texts = []
    with cuda_device():
        cuda_ops = load_backend("cuda")
        at_first = cuda_ops._indices.place
        for ops in (cpu_ops, cuda_ops):
            config = EngineConfig(max_batch=2, kv_block_size=BLOCK_SIZE, ctx_size=64)
            engine = Engine(load_model(tiny, ops), config)
            for name in "ab":
                engine.add(name, list(range(3, 30)), params)
            tokens = [[event.token_ids for event in engine.step()] for _ in range(8)]
            in_between = cuda_ops._indices.place
            texts.append([*tokens, *([event.token_ids for event in engine.step()] for _ in range(12))])
    assert in_between == at_first != cuda_ops._indices.place
    assert texts[0] == texts[1]


def test_masks_orders_and_logprobs_are_the_cpu_s_step_after_step(
    tiny: Path, cpu_ops: Ops, cuda_ops: Ops
) -> None:
    """Of steps that are recorded, replayed and launched ahead; whole events, each bit of each log-probability."""
    plain = SamplingParams(temperature=1.1, seed=3, max_tokens=6, ignore_eos=True, logprobs=4)
    requests = {
        "plain": plain,
        "allowed": replace(plain, allowed_token_ids=frozenset(range(5, 50, 7)), min_tokens=3),
        "ordered": replace(
            plain, sampler_order=("top_p", "temperature", "min_p", "top_k"), top_p=0.9, top_k=20
        ),
        "silent": replace(plain, logprobs=None, presence_penalty=0.5),
    }
    runs = []
    for ops in (cpu_ops, cuda_ops):
        config = EngineConfig(max_batch=4, kv_block_size=BLOCK_SIZE, ctx_size=64)
        engine = Engine(load_model(tiny, ops), config)
        for name, params in requests.items():
            engine.add(name, [5, 6, 7], params)
        events = [event for _ in range(6) for event in engine.step()]
        runs.append(sorted((e.request_id, len(e.logprobs), e.token_ids, e.logprobs) for e in events))
    assert runs[0] == runs[1]
    assert [n_logprobs for _, n_logprobs, _, _ in runs[0]] == [1] * 18 + [0] * 6


class Turns:
    """A guide: ids whose remainder is that of the number of tokens before them."""

    is_finished = False

    def __init__(self) -> None:
        self._n_seen = 0

    def fill_mask(self, words: np.ndarray) -> bool:
        allowed = np.arange(len(words) * 32) % 3 == self._n_seen % 3
        words[:] = np.packbits(allowed, bitorder="little").view(np.int32)
        return True

    def accept(self, token_id: int) -> None:
        assert token_id % 3 == self._n_seen % 3
        self._n_seen += 1


def test_guided_and_free_requests_together_are_the_cpu_s(tiny: Path, cpu_ops: Ops, cuda_ops: Ops) -> None:
    """Their logits come from a recorded step, and the choice after it, launched when the guides know their masks."""
    plain = SamplingParams(temperature=1.1, seed=3, max_tokens=6, ignore_eos=True, logprobs=2)
    runs = []
    for ops in (cpu_ops, cuda_ops):
        engine = Engine(
            load_model(tiny, ops), EngineConfig(max_batch=4, kv_block_size=BLOCK_SIZE, ctx_size=64)
        )
        engine.add("guided", [5, 6, 7], plain, guide=Turns())
        engine.add("free", [5, 6, 7], replace(plain, presence_penalty=0.5))
        engine.add("biased", [5, 6], replace(plain, logit_bias={9: 4.0}, seed=4), guide=Turns())
        events = [event for _ in range(6) for event in engine.step()]
        runs.append(sorted((e.request_id, e.token_ids, e.logprobs) for e in events))
    assert runs[0] == runs[1]
    assert len(runs[0]) == 18


def test_greedy_continuations_are_the_cpu_s(tiny: Path, cpu_ops: Ops, cuda_ops: Ops) -> None:
    assert greedy_texts(load_model(tiny, cuda_ops)) == greedy_texts(load_model(tiny, cpu_ops))


@pytest.mark.skipif(ON_CARD, reason="a card runs when it runs")
def test_steps_launched_ahead_read_their_own_tokens_on_a_device_that_runs_at_once(
    tiny: Path, cpu_ops: Ops
) -> None:
    """Else the device runs as late as it may: neither may show in a token."""
    with cuda_device(Machine(eager=True)):
        on_gpu = greedy_texts(load_model(tiny, load_backend("cuda")))
    assert on_gpu == greedy_texts(load_model(tiny, cpu_ops))


@pytest.mark.skipif(ON_CARD, reason="the emulated device says what it has run")
def test_a_step_is_enqueued_before_the_tokens_of_the_last_one_are_waited_for(
    tiny: Path, cuda_ops: Ops, machine: Machine
) -> None:
    """The emulated device runs only what somebody waits for: here one step of two, the first's tokens alone."""
    engine = Engine(
        load_model(tiny, cuda_ops), EngineConfig(max_batch=1, kv_block_size=BLOCK_SIZE, ctx_size=64)
    )
    engine.add("a", [5, 6, 7], replace(GREEDY, max_tokens=2))
    n_kernels = len(machine.launched)
    assert len(engine.step()) == 1
    ran = machine.launched[n_kernels:]
    assert (ran.count("peaks"), ran.count("pass_on")) == (1, 0)
    assert len(engine.step()) == 1
    ran = machine.launched[n_kernels:]
    assert (ran.count("peaks"), ran.count("pass_on")) == (2, 1)


@pytest.mark.skipif(ON_CARD, reason="the emulated device counts what is copied")
def test_eight_bytes_a_row_are_copied_to_the_host(tiny: Path, cuda_ops: Ops, machine: Machine) -> None:
    loaded = load_model(tiny, cuda_ops)
    engine = Engine(loaded, EngineConfig(max_batch=4, kv_block_size=BLOCK_SIZE, ctx_size=64))
    requests = {
        "a": GREEDY,
        "b": replace(GREEDY, temperature=1.0, min_p=0.1),
        "c": replace(GREEDY, repetition_penalty=1.3, max_tokens=4),
    }
    for name, params in requests.items():
        engine.add(name, [5, 6, 7], params)
    downloads = []
    while engine.has_work:
        before = machine.n_bytes_downloaded
        engine.step()
        downloads.append(machine.n_bytes_downloaded - before)
    # Of three rows while "c" runs. The copies of a step are asked for while the step before it runs, so the first
    # call asks for two steps and the last one for none.
    assert downloads == [2 * 8 * 3, 8 * 3, 8 * 3] + [8 * 2] * 8 + [0]


# The tiny model has all four KT types; of the larger ones a mix is enough for the quick suite.
PURE = [pytest.param(f"IQ{n}_KT-pure", marks=pytest.mark.slow) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["IQ2_KT", *PURE])
def test_a_shared_model_continues_as_on_the_cpu(shared: Path, cpu_ops: Ops, cuda_ops: Ops, name: str) -> None:
    path = shared / "models" / f"stories-wide256-{name}.gguf"
    prompt = [1, 80, 147, 201, 45]
    logits = []
    for ops in (cpu_ops, cuda_ops):
        loaded = load_model(path, ops)
        forward = ForwardPass(loaded.model, ops, new_caches(loaded, 1, BLOCK_SIZE), BLOCK_SIZE)
        first = forward.run([Chunk(prompt, 0, [0])])
        assert first is not None
        steps = [first.copy()]
        for position in range(len(prompt), len(prompt) + 3):
            step = forward.run([Chunk([int(np.argmax(steps[-1][0]))], position, [0])])
            assert step is not None
            steps.append(step.copy())
        logits.append(np.concatenate(steps))
    np.testing.assert_array_equal(logits[1], logits[0])


@pytest.mark.skipif(ON_CARD, reason="a card cannot be lost at will")
def test_a_lost_device_fails_the_step(tiny: Path) -> None:
    # What the server makes of any exception of a step: test_an_engine_that_fails_ends_its_streams_and_its_health.
    machine = Machine()
    with cuda_device(machine):
        sequences = Sequences(load_model(tiny, load_backend("cuda")))
        sequences.run({0: 2})
        machine.lose_device()
        with pytest.raises(RuntimeError, match="unspecified launch failure"):
            sequences.run({0: 1})


@pytest.mark.skipif(ON_CARD, reason="a card's memory is what it is")
def test_a_model_larger_than_the_device_is_refused_before_it_goes_up(tiny: Path) -> None:
    machine = Machine(total_memory=INDEX_BYTES + (64 << 10))  # the backend's own and hardly more
    with cuda_device(machine):
        ops = load_backend("cuda")
        before = machine.n_allocations
        with pytest.raises(
            ResourceError, match=r"weights take .*, the device has .* free: .* or --device cpu"
        ):
            load_model(tiny, ops)
        assert machine.n_allocations == before


def test_heads_that_attention_has_no_kernel_for_are_refused(tiny: Path, cuda_ops: Ops) -> None:
    with pytest.raises(ValueError, match="heads of 512 values"):
        cuda_ops.new_cache(PagedGroup(1, 1, 512), 1, BLOCK_SIZE)

"""The operations a model may use. One implementation per backend; models call nothing else. Read this first.

Arrays are the backend's own, float32 activations, row-major. n_tokens is every token of this forward
pass, all sequences laid end to end; prefill and decode differ only in how many tokens each sequence brings.
What an op returns is valid until the next `begin_step`: backends may hand out views of an arena.

Every op computes each output row from its own inputs in one fixed order, so a row's bits do not depend on
which other rows share the batch. That is what makes a request's tokens the same alone and in any company.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from kernels.batches import Array, AttentionBatch, LayerCache
from kernels.cache_groups import CacheGroup
from kernels.choice_row import Choices, Chosen, ChosenTokens
from kernels.delta_ops import DeltaNetOps
from kernels.expert_ops import ExpertOps
from kernels.indexer_ops import IndexerOps
from kernels.latent_ops import LatentOps
from kernels.quant_tensor import QuantTensor
from kernels.recordings import Recordings

Result = TypeVar("Result")  # what a recorded pass returns: an array, or a tuple of arrays and tuples

#: Attention sums keys in splits of this many positions, merged in order, on every backend.
KV_SPLIT = 256

#: How the CUDA backend computes attention: with the CPU's bits, or on f16 tensor cores. Other backends have "exact".
ATTENTIONS = ("exact", "tensor")


class Rotation(NamedTuple):
    """What `rope` does to a pass's heads."""

    angles: Array  # of `rope_angles`
    interleaved: bool


class Ops(ExpertOps, DeltaNetOps, LatentOps, IndexerOps, Protocol):
    """One backend."""

    name: str
    planes: int  # of activations (activation_planes.py)
    kv_types: Sequence[str]  # of kernels/kv_type.py, those that new_cache takes

    @property
    def runs_asynchronously(self) -> bool:
        """Operations return before they have run. A step that is launched before the last one's tokens are read then
        keeps the device busy; where operations run at once it would only delay those tokens.
        """

    # Loading: once per model.

    def load_quant(
        self, type_name: str, shape: tuple[int, int], data: Any, uses: frozenset[str]
    ) -> QuantTensor:
        """A matrix from its file bytes. shape (n_out, n_in); data a uint8 buffer of exactly its size.

        uses: {"linear"}, {"embed"} or both. F32, F16 and BF16 matrices come this way too. The inference gain
        (1.05 IQ2_KT, 1.01 IQ3_KT) is the linear op's business; embedding rows stay plain.
        Raises ValueError for a type, shape or size that does not fit.
        """

    def first_nonfinite_row(self, type_name: str, shape: tuple[int, int], data: Any) -> int | None:
        """The first row of a matrix of which a float that the file holds is NaN or infinite; None: all are finite.

        Floats are the factors of a row and its blocks, and the weights of a dense type. shape and data as for
        `load_quant`, which takes any bytes: random ones are good for tests, and a file's are asked about first.
        """

    def load_vector(self, values: np.ndarray) -> Array:
        """A float32 vector (norm weight, bias, rope frequencies) on the backend's device."""

    def new_cache(self, group: CacheGroup, n: int, block_size: int, kv_type: str = "f16") -> list[LayerCache]:
        """A cache for every layer of the group, zeroed: n blocks of block_size tokens, or n slots of a state.

        kv_type: one of `kv_types`; in q8_0 what is stored is rounded to int8, and attention computes with what was
        stored, exactly (kernels/common/kv_q8.h). A state is float32 in any case.
        Raises ValueError for a type, a width or a block size that the backend does not have.
        """

    def free_bytes(self) -> int | None:
        """Memory of the device that a KV cache may take; None where that is the host's."""

    def index_array(self, values: np.ndarray) -> Array:
        """An int32 array on the backend's device (token ids, positions, slots, tables)."""

    # Each step.

    def begin_step(self) -> None:
        """Forget every array returned since the last call; their memory is used again. But `pass_on` may still
        read what the last pass chose."""

    def padded_pass(self, n_seqs: int, n_columns: int) -> tuple[int, int]:
        """The sequences and block-table columns to give a decode pass that needs these: the same or more.

        A backend that records passes has few sizes. A padding sequence is one token with the slot -1, which is not
        stored, and context length 0; its outputs are finite and mean nothing.
        """

    def reserve_outputs(self, n_rows: int, n_columns: int) -> None:
        """Take the memory for a pass's widest results now: arrays [up to n_rows, n_columns], the logits.

        Passes of every shape share it. `output_bytes` says how much that is.
        """

    def output_bytes(self, n_rows: int, n_columns: int) -> int:
        """Bytes that `reserve_outputs` takes of the memory that a KV cache could have."""

    def recorded(self, recordings: Recordings, key: Hashable, compute: Callable[[], Result]) -> Result:
        """compute(), or a replay of what it did at an earlier call with these recordings and this key.

        The key determines everything but the contents of the step's index arrays, which are made before the call and
        in one order. The result is an array or a tuple of such, and valid until the next pass: recorded passes write
        their results to the same memory. compute may run more than once.
        """

    def hold(self, result: Array) -> Array:
        """An array that `recorded` gave. As long as this one is there, no later result of the step takes its memory:
        so it can be read by operations outside the recording.
        """

    def beside(
        self,
        x: Array,
        on_host: Callable[[np.ndarray], np.ndarray],
        n_out: int,
        on_device: Callable[[], Result],
    ) -> tuple[Array, Result]:
        """(on_host(x), on_device()): float32 [n_tokens, n] goes to the host, and its [n_tokens, n_out] comes back.

        A backend with a device of its own works on on_device meanwhile. A pass with such parts can be recorded; they
        run at each replay.
        """

    def to_host(self, x: Array) -> np.ndarray:
        """A numpy float32 array; on a host backend possibly x itself, valid until the next call or `begin_step`."""

    def embed(self, table: QuantTensor, token_ids: Array) -> Array:
        """[n_tokens] -> [n_tokens, n_embd]"""

    def take_rows(self, x: Array, rows: Array) -> Array:
        """[n_tokens, n] and [n_rows] -> [n_rows, n]"""

    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        """Divide the last axis of x by its root mean square (eps added to the mean), scale by weight."""

    def linear(self, x: Array, weight: QuantTensor) -> Array:
        """[n_tokens, n_in] -> [n_tokens, n_out]"""

    def linear_many(self, x: Array, weights: Sequence[QuantTensor]) -> list[Array]:
        """One `linear` per weight; the activations are quantized once."""

    def linear_add(self, x: Array, weight: QuantTensor, residual: Array) -> Array:
        """residual + linear(x, weight), [n_tokens, n_out]: `add`, in the same launch or loop where a backend can."""

    def gated_linear(self, x: Array, gate: QuantTensor, up: QuantTensor) -> Array:
        """silu(linear(x, gate)) * linear(x, up), [n_tokens, n_out]: `silu_mul`, likewise."""

    def add(self, x: Array, y: Array) -> Array:
        """x + y, same shapes."""

    def add_bias(self, x: Array, bias: Array) -> Array:
        """x [n_tokens, n] + bias [n]."""

    def scale_by_position(self, x: Array, positions: Array, factors: Array, stride: int) -> Array:
        """x [n_tokens, n], row t times factors[p], p = positions[t] // stride within 0 .. len(factors) - 1.

        Attention that sharpens with the length of a text (Llama 4, Ministral 3).
        """

    def rope_angles(self, positions: Array, freqs: Array, mscale: float) -> Array:
        """cos and sin of position * freq, each times mscale: [n_tokens, n_rot / 2, 2]. freqs [n_rot / 2]."""

    def rope(self, x: Array, angles: Array, interleaved: bool) -> Array:
        """Rotate the first n_rot values of each head of x [n_tokens, n_head, head_dim].

        interleaved: pairs are (2i, 2i + 1), as GGUF `llama` files hold them; else (i, i + n_rot / 2).
        """

    def store_kv(self, k: Array, v: Array, cache: LayerCache, slots: Array) -> None:
        """Write [n_tokens, n_head_kv, head_dim] into cache slots [n_tokens] (block_id * block_size + offset)."""

    def rope_and_store(
        self, q: Array, k: Array, v: Array, rotation: Rotation, cache: LayerCache, slots: Array
    ) -> Array:
        """rope(q), after store_kv(rope(k), v): in one launch where a backend can."""

    def attention(
        self, q: Array, cache: LayerCache, batch: AttentionBatch, scale: float, window: int | None = None
    ) -> Array:
        """Causal attention of q [n_tokens, n_head, head_dim] over the paged cache; same shape out.

        Scores are scale * q.k; KV is summed in splits of KV_SPLIT positions, merged in order. window: the query at
        position i sees the keys at i - window + 1 to i, None: all up to i. Others are not read.
        """

    def silu_mul(self, gate: Array, up: Array) -> Array:
        """silu(gate) * up, elementwise."""

    def gelu_mul(self, gate: Array, up: Array) -> Array:
        """gelu(gate) * up, elementwise; of the GELU with a tangent in it, Hendrycks and Gimpel, arXiv:1606.08415."""

    # What the last rows of logits are for.

    def choose(self, logits: Array, choices: Choices) -> Chosen:
        """A token for each row of logits [n_rows, n_vocab], which stay as they are.

        kernels/reference/choice.py says which: every backend gives its tokens and its log-probabilities, bit for bit.
        A row that has NaN or +infinity after its changes, or nothing but -infinity, gives that as its highest logit
        and the id numpy.argmax gives. A pass that is recorded may hold the choice.
        """

    def fetch_chosen(self, chosen: Chosen, n_rows: int) -> Callable[[], ChosenTokens]:
        """Begin to bring the first n_rows of a choice to the host.

        Calling the result waits for that choice and for no later work. What it returns is valid until the next
        `fetch_chosen` but one, on a host backend until the next pass: a backend serves one engine at a time.
        """

    def pass_on(self, chosen: Chosen, rows: Array, token_ids: Array) -> None:
        """token_ids[i] becomes the id chosen for row rows[i], where rows[i] is not negative: a pass can follow one
        whose tokens nobody has read yet. chosen is the pass before's; rows and token_ids are index
        arrays of this one.
        """

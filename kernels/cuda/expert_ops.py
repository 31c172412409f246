"""Operations on stacks of matrices on the device (kernels/expert_ops.py).

Rows are sorted by their matrix on the device, so that each chosen matrix is read once for all rows that go through
it; the host never learns which were chosen, and a pass can be recorded. The products are `linear`'s, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda.arena import Arena, DeviceArray, Int8Form
from kernels.cuda.device import Device
from kernels.cuda.weights import DeviceStack, Uploader
from kernels.expert_ops import GATINGS, LEAST_WEIGHT_SUM, Routed, Routing, check_routing
from kernels.quant_tensor import TYPES, QuantStack, checked_stack_bytes

THREADS = 256  # experts.cu
ROUTE_THREADS = 32
GATHERED_COLUMNS = 1024  # of int8, by a block


class StackForm(NamedTuple):
    """A kernel of stack_linear.cuh and the work of one block of threads. tokens: rows of a tile."""

    kernel: str
    rows: int
    tokens: int
    threads: int


#: By layout: for few rows a matrix, and for many.
FORMS = {
    "tiles": (StackForm("stack_few", 32, 8, 128), StackForm("stack_many", 32, 64, 256)),
    "rows": (StackForm("stack_few", 64, 8, 256), StackForm("stack_many", 32, 64, 256)),
    "dense": (StackForm("dense_stack", 32, 8, 128), StackForm("dense_stack", 32, 8, 128)),
}
#: From so many rows a matrix on, on average, the second form: it decodes a weight once for 64 rows instead of eight.
MANY_ROWS = 16


class SortedRows(NamedTuple):
    """Rows by matrix (experts.cu, sort_rows). int32 arrays."""

    order: DeviceArray  # [n_rows]
    places: DeviceArray  # [n_rows]
    tiles: DeviceArray  # [n_tiles, 4]
    n_tiles: int


class ExpertIds(DeviceArray):
    """A choice of experts, with the orders that were made of it so far: gate, up and down share them."""

    __slots__ = ("orders",)

    def __init__(self, array: DeviceArray) -> None:
        super().__init__(array.pointer, array.shape, array)
        self.orders: dict[tuple[int, int, int], SortedRows] = {}


class Products(NamedTuple):
    """Products by place, and where each pair's are."""

    y: DeviceArray  # [n_rows, n_out]
    places: DeviceArray
    planes: int


class CudaExpertOps:
    planes: int
    _device: Device
    _arena: Arena
    _uploader: Uploader
    _run: Callable[..., None]
    _activation: Callable[[int, int], DeviceArray]
    _quantized: Callable[[DeviceArray], tuple[Int8Form, object]]
    _both_planes: Callable[[DeviceArray], DeviceArray]

    def load_stack(self, type_name: str, shape: tuple[int, int, int], data: Any) -> QuantStack:
        matrices = checked_stack_bytes(type_name, shape, data)
        self._device.use()
        stack = self._uploader.stack(TYPES[type_name], *shape, matrices)
        return QuantStack(stack, TYPES[type_name], shape, stack.buffer.n_bytes)

    def route(self, logits: DeviceArray, bias: DeviceArray | None, routing: Routing) -> Routed:
        n_tokens, n_expert = logits.shape
        check_routing(routing, n_expert)
        experts = self._arena.take(n_tokens, routing.n_used)
        weights = self._arena.take(n_tokens, routing.n_used)
        scratch = self._arena.take(n_tokens, 2 * n_expert + routing.n_group)
        choice = (routing.n_used, routing.n_group, routing.n_group_used, int(routing.normalize))
        factors = (float(LEAST_WEIGHT_SUM), float(routing.scale))
        shape = (n_expert, GATINGS.index(routing.gating), *choice, *factors)
        biases = np.uint64(0) if bias is None else bias
        self._run(
            "experts", "route", (n_tokens,), ROUTE_THREADS, logits, biases, *shape, scratch, experts, weights
        )
        return Routed(ExpertIds(experts), weights)

    def gated_experts(self, x: DeviceArray, gate: QuantStack, up: QuantStack, routed: Routed) -> DeviceArray:
        n_tokens, n_used = routed.experts.shape
        n_pairs, n = n_tokens * n_used, gate.shape[1]
        stacks: list[list[DeviceStack]] = [[gate.data], [up.data]]
        if gate.data.module == up.data.module:
            stacks = [[gate.data, up.data]]
        products = [p for group in stacks for p in self._stack_products(x, group, routed.experts, n_used)]
        out = self._activation(n_pairs, n)
        int8 = (np.uint64(0),) * 3 if out.int8 is None else tuple(map(np.uint64, out.int8))
        of_both = [part for p in products for part in (p.y, p.places, p.planes)]
        self._run("experts", "gated_rows", (-(-n // THREADS), n_pairs), THREADS, *of_both, n, out, *int8)
        return _reshaped(out, (n_tokens, n_used, n))

    def experts_sum(
        self, h: DeviceArray, down: QuantStack, routed: Routed, residual: DeviceArray
    ) -> DeviceArray:
        n_tokens, n_used, n_ff = h.shape
        rows = _reshaped(h, (n_tokens * n_used, n_ff))
        y, places, planes = self._stack_products(rows, [down.data], routed.experts, 1)[0]
        n = down.shape[1]
        out = self._arena.take(n_tokens, n)
        weighted = (y, places, planes, routed.weights, n_used, n, residual, out)
        self._run("experts", "weighted_rows", (-(-n // THREADS), n_tokens), THREADS, *weighted)
        return out

    def linear_heads(self, x: DeviceArray, heads: QuantStack) -> DeviceArray:
        n_tokens, n_head, n_in = x.shape
        n_pairs, n = n_tokens * n_head, heads.shape[1]
        rows = _reshaped(x, (n_pairs, n_in))
        y, places, planes = self._stack_products(rows, [heads.data], None, 1)[0]
        out = self._arena.take(n_tokens, n_head, n)
        grid = (-(-n // THREADS), n_pairs)
        self._run("experts", "products_of_pairs", grid, THREADS, y, places, planes, n, out)
        return out

    def _stack_products(
        self, x: DeviceArray, stacks: Sequence[DeviceStack], experts: DeviceArray | None, slots: int
    ) -> list[Products]:
        """Through up to two stacks of one module. Pair i reads row i / slots of x.

        experts: the matrix of each pair; None: i % n.
        """
        first = stacks[0]
        planes = 1 if first.layout == "dense" else self.planes
        n_rows = x.shape[0] * slots * planes
        form = FORMS[first.layout][n_rows >= MANY_ROWS * first.n]
        rows = self._sorted(experts, n_rows, planes, first.n, form.tokens)
        outs = [self._arena.take(n_rows, stack.n_out) for stack in stacks]
        if first.layout == "dense":
            sorted_x = self._gathered_floats(x, rows, n_rows, slots)
            for stack, out in zip(stacks, outs, strict=True):
                grid = (-(-stack.n_out // form.rows), rows.n_tiles)
                weights = (np.uint64(stack.buffer.pointer), np.int64(stack.matrix_bytes))
                shape = (stack.n_out, stack.n_in, out, rows.tiles)
                self._run(stack.module, form.kernel, grid, form.threads, *weights, sorted_x, *shape)
        else:
            int8, lease = self._gathered_int8(x, rows, n_rows, slots, planes)
            self._launch(form, stacks, outs, int8, rows)
            del lease
        return [Products(out, rows.places, planes) for out in outs]

    def _sorted(
        self, experts: DeviceArray | None, n_rows: int, planes: int, n: int, tile_rows: int
    ) -> SortedRows:
        key = (n_rows, planes, tile_rows)
        orders = experts.orders if isinstance(experts, ExpertIds) else {}
        if key not in orders:
            n_tiles = n_rows // tile_rows + min(n, n_rows)  # each matrix has one that is not full, at most
            cursors, order, places = (self._arena.take(size) for size in (n, n_rows, n_rows))
            tiles = self._arena.take(n_tiles, 4)
            ids = np.uint64(0) if experts is None else experts
            sizes = (n_rows, planes, n, tile_rows)
            arrays = (cursors, order, places, tiles, n_tiles)
            self._run("experts", "sort_rows", (1,), THREADS, ids, *sizes, *arrays)
            orders[key] = SortedRows(order, places, tiles, n_tiles)
        return orders[key]

    def _launch(
        self,
        form: StackForm,
        stacks: Sequence[DeviceStack],
        outs: Sequence[DeviceArray],
        int8: Int8Form,
        rows: SortedRows,
    ) -> None:
        absent = 2 - len(stacks)
        blocks = sum(-(-stack.n_out // form.rows) for stack in stacks)
        self._run(
            f"stack_{stacks[0].module}",
            form.kernel,
            (blocks, rows.n_tiles),
            form.threads,
            *(np.uint64(stack.buffer.pointer) for stack in stacks),
            *(np.uint64(0),) * absent,
            *(np.int64(stack.matrix_bytes) for stack in stacks),
            *(np.int64(0),) * absent,
            *outs,
            *(np.uint64(0),) * absent,
            *(stack.n_out for stack in stacks),
            *(0,) * absent,
            stacks[0].n_in,
            *map(np.uint64, int8),
            rows.tiles,
        )

    def _gathered_int8(
        self, x: DeviceArray, rows: SortedRows, n_rows: int, slots: int, planes: int
    ) -> tuple[Int8Form, object]:
        n_in = x.shape[1]
        made: object = None  # an int8 form made here, used until the rows are gathered
        if x.int8 is not None and planes == 1:
            form = x.int8
        else:
            form, made = self._quantized(x) if planes == 1 else self._both_forms(x)
        int8, lease = self._arena.take_int8(n_rows, n_in)
        grid = (-(-n_in // GATHERED_COLUMNS), n_rows)
        arrays = (*map(np.uint64, form), *map(np.uint64, int8))
        self._run("experts", "gather_int8", grid, THREADS, rows.order, slots, planes, n_in, *arrays)
        del made
        return int8, lease

    def _gathered_floats(self, x: DeviceArray, rows: SortedRows, n_rows: int, slots: int) -> DeviceArray:
        n_in = x.shape[1]
        out = self._arena.take(n_rows, n_in)
        grid = (-(-n_in // THREADS), n_rows)
        self._run("experts", "gather_floats", grid, THREADS, rows.order, slots, n_in, x, out)
        return out

    def _both_forms(self, x: DeviceArray) -> tuple[Int8Form, object]:
        both = self._both_planes(x)
        assert both.int8 is not None
        return both.int8, both


def _reshaped(x: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """The same rows under another shape, with their int8 form: the last axis stays."""
    assert x.shape[-1] == shape[-1]
    return DeviceArray(x.pointer, shape, x, x.int8)

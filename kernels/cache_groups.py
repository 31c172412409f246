"""What a model keeps of the tokens it has seen: groups of layers whose caches are alike.

A model declares its groups (`Model.cache_groups`), `Ops.new_cache` makes each of them, and what a group takes of the
memory is reckoned here. Blocks hold some tokens of a request each; a state is as large for any number of tokens.
"""

from dataclasses import dataclass

from kernels.kv_type import head_bytes

F32_BYTES = 4


@dataclass(frozen=True)
class PagedGroup:
    """A key and a value of n_head_kv heads for each token and layer, in blocks."""

    n_layer: int
    n_head_kv: int
    head_dim: int
    window: int | None = None  # a token sees its last so many tokens only, itself among them

    def token_bytes(self, kv_type: str) -> int:
        """Of all layers."""
        return 2 * self.n_layer * self.n_head_kv * head_bytes(kv_type, self.head_dim)


@dataclass(frozen=True)
class LatentGroup:
    """One row of `width` numbers for each token and layer, in blocks: all heads read it, as keys and as values.

    DeepSeek-V2, arXiv:2405.04434, 2.1: the compressed latent, and after it the part of the keys that is rotated.
    """

    n_layer: int
    width: int
    value_width: int  # the first so many numbers of a row are its value
    is_exact: bool = False  # float32 whatever kv_type says: a choice between rows must not hang on a rounding

    def row_type(self, kv_type: str) -> str:
        """What a row lies in: kv_type or f32."""
        return "f32" if self.is_exact else kv_type

    def token_bytes(self, kv_type: str) -> int:
        """Of all layers."""
        row_bytes = F32_BYTES * self.width if self.is_exact else head_bytes(kv_type, self.width)
        return self.n_layer * row_bytes


@dataclass(frozen=True)
class StateGroup:
    """What a recurrent layer remembers of a request, float32: a slot for each request.

    The last n_taps - 1 inputs of a convolution over n_channels, and for each head a matrix [key_dim, value_dim].
    """

    n_layer: int
    n_channels: int
    n_taps: int
    n_head: int
    key_dim: int
    value_dim: int

    @property
    def slot_bytes(self) -> int:
        """Of one request, over all layers."""
        n_floats = (self.n_taps - 1) * self.n_channels + self.n_head * self.key_dim * self.value_dim
        return self.n_layer * n_floats * F32_BYTES


BlockGroup = PagedGroup | LatentGroup
CacheGroup = BlockGroup | StateGroup

"""What a GGUF file says, as the plain numbers that another implementation takes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from support.architectures.random_file import plain_values
from support.gguf_writer import Tensor


class FileValues:
    """Keys without the architecture's name, and tensors as float64 in their order of rows."""

    def __init__(self, metadata: Mapping[str, Any], tensors: Iterable[Tensor]) -> None:
        self.architecture: str = metadata["general.architecture"]
        self._metadata = metadata
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._used: set[str] = set()

    def key(self, name: str, default: Any = None) -> Any:
        return self._metadata.get(f"{self.architecture}.{name}", default)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        self._used.add(name)
        return plain_values(self._tensors[name])

    def unused(self) -> set[str]:
        """Names of tensors that nobody asked for."""
        return set(self._tensors) - self._used

    @property
    def n_layer(self) -> int:
        """Layers that run; those that predict a token further come after them."""
        return int(self.key("block_count")) - int(self.key("nextn_predict_layers", 0))

"""Recurrent operations on CUDA: not there yet, in words."""

from typing import Any, NoReturn

_NOT_YET = "the CUDA backend does not run recurrent layers yet; --device cpu does"


class CudaDeltaOps:
    def new_state_cache(self, *arguments: Any) -> NoReturn:
        raise ValueError(_NOT_YET)

    def causal_conv(self, *arguments: Any) -> NoReturn:
        raise ValueError(_NOT_YET)

    def delta_net(self, *arguments: Any) -> NoReturn:
        raise ValueError(_NOT_YET)

    def sigmoid_mul(self, *arguments: Any) -> NoReturn:
        raise ValueError(_NOT_YET)

    def add_gated(self, *arguments: Any) -> NoReturn:
        raise ValueError(_NOT_YET)

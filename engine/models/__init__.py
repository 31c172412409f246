"""Networks over `kernels.ops`. model.py says what the engine asks of one, architectures.py which there are."""

from engine.models.architectures import ARCHITECTURES, build_model

__all__ = ["ARCHITECTURES", "build_model"]

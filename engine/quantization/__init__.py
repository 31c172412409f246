"""From float weights to file bytes."""

from engine.quantization.kt import quantize_iq4_kt
from engine.quantization.legacy import quantize_q8_0

__all__ = ["quantize_iq4_kt", "quantize_q8_0"]

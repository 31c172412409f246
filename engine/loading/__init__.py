"""A GGUF file in, a LoadedModel out. Nothing in the file is trusted; what is wrong is a ModelFileError."""

from engine.loading.load import LoadedModel, load_model, synthetic_model

__all__ = ["LoadedModel", "load_model", "synthetic_model"]

"""The engine's door: requests of token ids in, token ids out. Synchronous; no asyncio, no HTTP, no JSON.

engine = Engine(load_model(path, load_backend("cpu")), EngineConfig())
engine.add("r1", prompt_ids, SamplingParams(temperature=0))
while engine.has_work:
    for event in engine.step(): ...
"""

from engine.engine import Engine
from engine.errors import (
    ContextLengthError,
    EspalierError,
    ModelFileError,
    QueueFullError,
    RequestError,
    ResourceError,
)
from engine.loading import LoadedModel, load_model, synthetic_model
from engine.types import (
    NO_READS,
    EngineConfig,
    EngineStats,
    FinishReason,
    PromptReads,
    SamplingParams,
    TokenEvent,
    TokenLogprobs,
)

__all__ = [
    "NO_READS",
    "ContextLengthError",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "EspalierError",
    "FinishReason",
    "LoadedModel",
    "ModelFileError",
    "PromptReads",
    "QueueFullError",
    "RequestError",
    "ResourceError",
    "SamplingParams",
    "TokenEvent",
    "TokenLogprobs",
    "load_model",
    "synthetic_model",
]

"""GET /props: llama.cpp's view of a server, which its web pages and other clients ask for first. Read-only.

`model_path` is the model's id: where files lie is nobody's business.
"""

from typing import Any

from fastapi import APIRouter, Request

from engine import SamplingParams
from server.service import Service, package_version

router = APIRouter()


@router.api_route("/props", methods=["GET", "HEAD"])
async def props(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    special = service.tokenizer.special_texts()
    return {
        "default_generation_settings": {
            "n_ctx": service.engine.ctx_size,
            "speculative": False,
            "is_processing": False,
            "params": _defaults(SamplingParams()),
        },
        "total_slots": service.engine.max_running,
        "model_alias": service.model_id,
        "model_path": service.model_id,
        "modalities": {"vision": False, "audio": False},
        "chat_template": service.chat_template.source,
        "bos_token": special["bos_token"] or "",
        "eos_token": special["eos_token"] or "",
        "build_info": f"espalier-{package_version()}",
        "is_sleeping": False,
    }


def _defaults(params: SamplingParams) -> dict[str, Any]:
    """What a chat without these fields gets, in llama.cpp's words: -1 is a random seed, or the whole context."""
    return {
        "n_predict": -1 if params.max_tokens is None else params.max_tokens,
        "max_tokens": -1 if params.max_tokens is None else params.max_tokens,
        "seed": -1 if params.seed is None else params.seed,
        "temperature": params.temperature,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "repeat_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "ignore_eos": params.ignore_eos,
        "samplers": list(params.sampler_order),
        "stop": [],
        "stream": False,
        "n_probs": 0,
    }

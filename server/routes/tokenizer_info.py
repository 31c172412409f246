"""GET /tokenizer_info: vLLM's view of a tokenizer_config.json, which eval harnesses read."""

from typing import Any

from fastapi import APIRouter, Request

from server.service import Service

router = APIRouter()


@router.api_route("/tokenizer_info", methods=["GET", "HEAD"])
async def tokenizer_info(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    tokenizer = service.tokenizer
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # the class of transformers that holds any of ours
        **tokenizer.special_texts(),
        "add_bos_token": tokenizer.add_bos,
        "add_eos_token": tokenizer.add_eos,
        "vocab_size": tokenizer.n_vocab,
        "model_max_length": service.engine.ctx_size,
        "chat_template": service.chat_template.source,
    }

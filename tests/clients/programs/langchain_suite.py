"""LangChain's standard suite for chat models, on ChatOpenAI against BASE_URL (the environment's). Run by pytest."""

import os

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestEspalier(ChatModelIntegrationTests):
    """What needs another host (pictures, sound, PDFs) is off by the suite's own defaults."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict:
        return {
            "model": "scripted",
            "base_url": os.environ["BASE_URL"],
            "api_key": "none",
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return True

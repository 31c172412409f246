"""Tools told in words, for models whose chat template has no place for them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HOW = """\
You can call these functions:
{tools}
To call one, answer with
<tool_call>
{{"name": NAME, "arguments": {{...}}}}
</tool_call>"""


def with_tools_told(
    messages: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The messages with the tools in the system message. tools: OpenAI's objects.

    Calls are asked for as the `hermes` parser reads them (formats.GENERIC).
    """
    lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    told = _HOW.format(tools=lines)
    first = messages[0]
    if first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": told}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        return [{**first, "content": [*content, {"type": "text", "text": f"\n\n{told}"}]}, *messages[1:]]
    text = f"{content}\n\n{told}" if content else told
    return [{**first, "content": text}, *messages[1:]]

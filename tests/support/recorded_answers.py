"""What models of each family write when they call tools, by hand from the formats that the families document.

Malformed ones too, and such as were cut.
"""

import json
from typing import Any, NamedTuple

from engine.answers.tool import Tool

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "near": {"type": "array", "items": {"type": "string"}},
            "where": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        },
    },
)
NOW = Tool("now", {"type": "object", "properties": {}})
WRITE = Tool(
    "write_file", {"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}}
)
PYTHON = Tool("python", {"type": "object", "properties": {"code": {"type": "string"}}})
TOOLS = (WEATHER, NOW, WRITE, PYTHON)

CITY: dict[str, Any] = {"city": 'Sankt "Peter"\\Ording', "days": 3}
NESTED: dict[str, Any] = {
    "city": "München 🌧",
    "exact": True,
    "near": ["a}b", "]"],
    "where": {"x": {"y": [1, {"z": None}]}},
}
LONG: dict[str, Any] = {"path": "a.py", "text": "".join(f'line {i}: "{i}"\n\tπ\n' for i in range(60))}


class Recorded(NamedTuple):
    """calls: (name, arguments) in order; arguments as the model meant them."""

    text: str
    content: str
    calls: tuple[tuple[str, Any], ...]


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def _hermes(name: str, arguments: Any, **options: Any) -> str:
    return f"<tool_call>\n{_json({'name': name, 'arguments': arguments}, **options)}\n</tool_call>"


HERMES = [
    Recorded(_hermes("get_weather", CITY), "", (("get_weather", CITY),)),
    Recorded(_hermes("now", {}), "", (("now", {}),)),
    Recorded('<tool_call>{"name": "now"}</tool_call>', "", (("now", {}),)),
    Recorded(
        f"I will look.\n\n{_hermes('get_weather', NESTED)}\n{_hermes('now', {})}",
        "I will look.",
        (("get_weather", NESTED), ("now", {})),
    ),
    Recorded(_hermes("write_file", LONG, indent=2), "", (("write_file", LONG),)),
    Recorded(
        '<tool_call>{"arguments": {"city": "x"}, "name": "get_weather"}</tool_call>',
        "",
        (("get_weather", {"city": "x"}),),
    ),
    Recorded(
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"x\\"}"}</tool_call>',
        "",
        (("get_weather", {"city": "x"}),),
    ),
    Recorded('<tool_call>{"name": "f", "parameters": {"a": 1.5e3}}', "", (("f", {"a": 1500.0}),)),
    Recorded("a <tool_call> is a tag", "a <tool_call> is a tag", ()),
    Recorded(
        '<tool_call>{"name": "f", "arguments": {"a": 1}', '<tool_call>{"name": "f", "arguments": {"a": 1}', ()
    ),
    Recorded(
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>.',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>.',
        (),
    ),
    Recorded('<tool_call>{"name": 7, "arguments": {}} x', '<tool_call>{"name": 7, "arguments": {}} x', ()),
    Recorded("1 < 2 and <tool", "1 < 2 and <tool", ()),
]


def _mistral_v11(name: str, arguments: Any) -> str:
    return f"[TOOL_CALLS]{name}[ARGS]{_json(arguments)}"


MISTRAL = [
    Recorded(
        f"[TOOL_CALLS] [{_json({'name': 'get_weather', 'arguments': CITY})}]", "", (("get_weather", CITY),)
    ),
    Recorded(
        f"[TOOL_CALLS][{_json({'name': 'get_weather', 'arguments': NESTED})}, "
        f"{_json({'name': 'now', 'arguments': {}})}]",
        "",
        (("get_weather", NESTED), ("now", {})),
    ),
    Recorded(_mistral_v11("now", {}), "", (("now", {}),)),
    Recorded(
        f"Wait.{_mistral_v11('write_file', LONG)}{_mistral_v11('now', {})}",
        "Wait.",
        (("write_file", LONG), ("now", {})),
    ),
    Recorded(
        '[TOOL_CALLS]get_weather[CALL_ID]abc123XYZ[ARGS]{"city": "x"}', "", (("get_weather", {"city": "x"}),)
    ),
    Recorded('[TOOL_CALLS]get_weather{"city": "x"}', "", (("get_weather", {"city": "x"}),)),
    Recorded('[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name"', ', {"name"', (("now", {}),)),
    Recorded("[TOOL_CALLS] are [marks]", "[TOOL_CALLS] are [marks]", ()),
]


def _coder(name: str, **values: str) -> str:
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


QWEN3_CODER = [
    Recorded(_coder("get_weather", city=CITY["city"], days="3"), "", (("get_weather", CITY),)),
    Recorded(_coder("now"), "", (("now", {}),)),
    Recorded(
        "Yes.\n"
        + _coder(
            "get_weather",
            city=NESTED["city"],
            exact="True",
            near=_json(NESTED["near"]),
            where=_json(NESTED["where"]),
        )
        + "\n"
        + _coder("now"),
        "Yes.",
        (("get_weather", NESTED), ("now", {})),
    ),
    Recorded(_coder("write_file", path="a.py", text=LONG["text"]), "", (("write_file", LONG),)),
    Recorded("<function=now>\n</function>\n</tool_call>", "", (("now", {}),)),
    Recorded(_coder("f", a="7", b="seven", c="null"), "", (("f", {"a": 7, "b": "seven", "c": None}),)),
    Recorded(
        _coder("get_weather", city="7", days="many", where="null"),
        "",
        (("get_weather", {"city": "7", "days": "many", "where": None}),),
    ),
    Recorded(
        "<tool_call>\n<function=now>\n<parameter=a>\n1", "<tool_call>\n<function=now>\n<parameter=a>\n1", ()
    ),
    Recorded("<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", ()),
]


def _glm(name: str, between: str = "\n", **values: str) -> str:
    pairs = "".join(
        f"<arg_key>{key}</arg_key>{between}<arg_value>{value}</arg_value>{between}"
        for key, value in values.items()
    )
    return f"<tool_call>{name}{between}{pairs}</tool_call>"


GLM = [
    Recorded("\n" + _glm("get_weather", city=CITY["city"], days="3"), "", (("get_weather", CITY),)),
    Recorded(_glm("get_weather", between="", city=CITY["city"], days="3"), "", (("get_weather", CITY),)),
    Recorded(_glm("now"), "", (("now", {}),)),
    Recorded("<tool_call>now</tool_call>", "", (("now", {}),)),
    Recorded(
        "Hm.\n"
        + _glm(
            "get_weather",
            city=NESTED["city"],
            exact="true",
            near=_json(NESTED["near"]),
            where=_json(NESTED["where"]),
        )
        + _glm("now"),
        "Hm.",
        (("get_weather", NESTED), ("now", {})),
    ),
    Recorded(_glm("write_file", path="a.py", text=LONG["text"]), "", (("write_file", LONG),)),
    Recorded(
        "<tool_call>get_weather\n<arg_key>city</arg_key> x",
        "<tool_call>get_weather\n<arg_key>city</arg_key> x",
        (),
    ),
    Recorded("<tool_call> a b </tool_call>", "<tool_call> a b </tool_call>", ()),
]


def _llama(name: str, parameters: Any) -> str:
    return _json({"name": name, "parameters": parameters})


LLAMA3 = [
    Recorded(_llama("get_weather", CITY), "", (("get_weather", CITY),)),
    Recorded("<|python_tag|>" + _llama("get_weather", NESTED), "", (("get_weather", NESTED),)),
    Recorded(f"{_llama('get_weather', CITY)}; {_llama('now', {})}", "", (("get_weather", CITY), ("now", {}))),
    Recorded(
        "<|python_tag|>" + _llama("write_file", LONG) + ";" + _llama("now", {}),
        "",
        (("write_file", LONG), ("now", {})),
    ),
    Recorded(
        '<|python_tag|>brave_search.call(query="a (b)", n=3)',
        "",
        (("brave_search", {"query": "a (b)", "n": 3}),),
    ),
    Recorded("<|python_tag|>import os\nprint(1)", "", (("python", {"code": "import os\nprint(1)"}),)),
    Recorded('{"type": "function", "name": "now", "parameters": {}}', "", (("now", {}),)),
    Recorded(
        '{"name": "Ada", "parameters": {}} is a person', '{"name": "Ada", "parameters": {}} is a person', ()
    ),
    Recorded('{"a": 1}', '{"a": 1}', ()),
    Recorded('Look: {"name": "now", "parameters": {}}', 'Look: {"name": "now", "parameters": {}}', ()),
]


def _deepseek(*calls: str) -> str:
    told = "".join(f"<｜tool▁call▁begin｜>{call}<｜tool▁call▁end｜>" for call in calls)
    return f"<｜tool▁calls▁begin｜>{told}<｜tool▁calls▁end｜>"


def _v3(name: str, arguments: Any) -> str:
    return f"function<｜tool▁sep｜>{name}\n```json\n{_json(arguments)}\n```"


def _v31(name: str, arguments: Any) -> str:
    return f"{name}<｜tool▁sep｜>{_json(arguments)}"


DEEPSEEK = [
    Recorded(_deepseek(_v3("get_weather", CITY)), "", (("get_weather", CITY),)),
    Recorded(_deepseek(_v31("get_weather", CITY), _v31("now", {})), "", (("get_weather", CITY), ("now", {}))),
    Recorded(
        "So.\n" + _deepseek(_v3("write_file", LONG), _v3("now", {})),
        "So.",
        (("write_file", LONG), ("now", {})),
    ),
    Recorded(_deepseek(_v31("now", {})), "", (("now", {}),)),
    Recorded(_deepseek(_v31("get_weather", NESTED)), "", (("get_weather", NESTED),)),
    Recorded("<｜tool▁call▁begin｜>now<｜tool▁sep｜>[]", "<｜tool▁call▁begin｜>now<｜tool▁sep｜>[]", ()),
]


def _kimi(*calls: tuple[str, Any]) -> str:
    told = "".join(
        f"<|tool_call_begin|>{call_id}<|tool_call_argument_begin|>{_json(arguments)}<|tool_call_end|>"
        for call_id, arguments in calls
    )
    return f"<|tool_calls_section_begin|>{told}<|tool_calls_section_end|>"


KIMI = [
    Recorded(_kimi(("functions.get_weather:0", CITY)), "", (("get_weather", CITY),)),
    Recorded(
        _kimi(("functions.get_weather:0", NESTED), ("functions.now:1", {})),
        "",
        (("get_weather", NESTED), ("now", {})),
    ),
    Recorded("Well." + _kimi(("write_file:0", LONG)), "Well.", (("write_file", LONG),)),
    Recorded(_kimi(("now", {})), "", (("now", {}),)),
    Recorded(_kimi(("functions.fs.read:12", {"p": "/"})), "", (("fs.read", {"p": "/"}),)),
    Recorded(
        "<|tool_call_begin|>functions.:0<|tool_call_argument_begin|>{}",
        "<|tool_call_begin|>functions.:0<|tool_call_argument_begin|>{}",
        (),
    ),
]

RECORDED: dict[str, list[Recorded]] = {
    "hermes": HERMES,
    "qwen3_coder": QWEN3_CODER,
    "glm": GLM,
    "mistral": MISTRAL,
    "mistral_v11": MISTRAL,
    "llama3": LLAMA3,
    "deepseek": DEEPSEEK,
    "deepseek_v31": DEEPSEEK,
    "kimi_k2": KIMI,
}

"""Structural tags: free text in which some beginnings oblige the model to what must follow.

vLLM's and SGLang's object: {"structures": [{"begin", "schema", "end"}], "triggers": [...]}. Text that contains no
trigger is free; a trigger must go on as one of the structures that begin with it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from engine.constraints.limits import MAX_CHARACTERS, MAX_TAGS
from engine.constraints.schema_checks import check_schema
from engine.constraints.spec import invalid


def lark_of_tags(value: Any, param: str, json_rule: Callable[[Any], str]) -> str:
    """The grammar. Raises RequestError naming the structure that is wrong."""
    if not isinstance(value, dict):
        raise invalid(param, "must be an object with structures and triggers")
    structures = _listed(value, "structures", param)
    triggers = _listed(value, "triggers", param)
    if not all(isinstance(trigger, str) and trigger for trigger in triggers):
        raise invalid(f"{param}.triggers", "must be texts that are not empty")
    rules, names = [], []
    for index, structure in enumerate(structures):
        place = f"{param}.structures[{index}]"
        begin, end, schema = _parts(structure, place)
        trigger = next((trigger for trigger in triggers if begin.startswith(trigger)), None)
        if trigger is None:
            raise invalid(f"{place}.begin", "begins with none of the triggers")
        rest = begin[len(trigger) :]
        body = " ".join([*_texts(rest), f"schema_{index}", *_texts(end)])
        rules.append(f"schema_{index}: {json_rule(schema)}")
        rules.append(f"tag_{index}: trigger_{triggers.index(trigger)} {body}")
        names.append(f"tag_{index}")
    heads = [
        f"trigger_{i}[lazy]: TEXT {json.dumps(text, ensure_ascii=False)}" for i, text in enumerate(triggers)
    ]
    return "\n".join(
        [f"start: ({' | '.join(names)})* last", "last: TEXT", r"TEXT: /(.|\n)*/", *heads, *rules]
    )


def _listed(value: Mapping[str, Any], name: str, param: str) -> list[Any]:
    entries = value.get(name)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_TAGS:
        raise invalid(f"{param}.{name}", f"must be a list of 1 to {MAX_TAGS} entries")
    return entries


def _parts(structure: Any, place: str) -> tuple[str, str, Any]:
    """begin, end and schema."""
    if not isinstance(structure, dict):
        raise invalid(place, "must be an object with begin, schema and end")
    begin, end = structure.get("begin"), structure.get("end", "")
    if not isinstance(begin, str) or not begin or not isinstance(end, str):
        raise invalid(place, "must have a begin that is not empty, and an end: texts")
    if len(begin) + len(end) > MAX_CHARACTERS:
        raise invalid(place, f"has texts of more than {MAX_CHARACTERS} characters")
    schema = structure.get("schema", True)
    check_schema(schema, f"{place}.schema")
    return begin, end, schema


def _texts(text: str) -> list[str]:
    return [json.dumps(text, ensure_ascii=False)] if text else []

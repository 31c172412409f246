"""Chat templates by the name of their family, for a file that has none or a wrong one (--chat-template).

Each is the bare turn format of its family, as its publisher describes it, without tools. An instruction that a
family has no place for goes in front of the first user message (message_forms.py).
"""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import EspalierError

MAX_FILE_BYTES = 1 << 18  # four times the characters that are read


@dataclass(frozen=True)
class ChosenTemplate:
    """A template's source, and the strings that end an answer where the vocabulary has no token for them."""

    name: str
    source: str
    stops: tuple[str, ...] = ()


CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""

LLAMA_2 = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' ~ message.content ~ '\\n<</SYS>>\\n\\n' -%}
{%- elif message.role == 'assistant' -%}
{{ ' ' ~ (message.content | trim) ~ ' ' ~ eos_token }}
{%- else -%}
{{ bos_token ~ '[INST] ' ~ ns.system ~ (message.content | trim) ~ ' [/INST]' }}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
"""

LLAMA_3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ (message.content | trim) ~ '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}
"""

MISTRAL = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ raise_exception('there is no system message in this format') }}
{%- elif message.role == 'assistant' -%}
{{ ' ' ~ (message.content | trim) ~ eos_token }}
{%- else -%}
{{ '[INST] ' ~ message.content ~ ' [/INST]' }}
{%- endif -%}
{%- endfor -%}
"""

GEMMA = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' %}{{ raise_exception('there is no system message in this format') }}{% endif -%}
{%- set role = 'model' if message.role == 'assistant' else 'user' -%}
{{ '<start_of_turn>' ~ role ~ '\\n' ~ (message.content | trim) ~ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""

PHI_3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|' ~ message.role ~ '|>\\n' ~ message.content ~ '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
"""

ZEPHYR = """\
{%- for message in messages -%}
{{ '<|' ~ message.role ~ '|>\\n' ~ message.content ~ eos_token ~ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
"""

DEEPSEEK = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ message.content }}
{%- elif message.role == 'assistant' -%}
{{ '<｜Assistant｜>' ~ message.content ~ eos_token }}
{%- else -%}
{{ '<｜User｜>' ~ message.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif -%}
"""  # the family's own bars

VICUNA = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ message.content ~ '\\n\\n' }}
{%- elif message.role == 'assistant' -%}
{{ ' ' ~ message.content ~ eos_token ~ '\\n' }}
{%- else -%}
{{ 'USER: ' ~ message.content ~ '\\nASSISTANT:' }}
{%- endif -%}
{%- endfor -%}
"""

ALPACA = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ message.content ~ '\\n\\n' }}
{%- elif message.role == 'assistant' -%}
{{ '### Response:\\n' ~ message.content ~ eos_token ~ '\\n\\n' }}
{%- else -%}
{{ '### Instruction:\\n' ~ message.content ~ '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif -%}
"""

# Nothing a model must have been trained on.
PLAIN = """\
{%- for message in messages -%}
{{ message.role | capitalize }}: {{ message.content | trim }}
{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt %}Assistant:{% endif -%}
"""

FAMILIES = {
    family.name: family
    for family in (
        ChosenTemplate("alpaca", ALPACA, ("### Instruction:",)),
        ChosenTemplate("chatml", CHATML, ("<|im_end|>",)),
        ChosenTemplate("deepseek", DEEPSEEK, ("<｜User｜>",)),
        ChosenTemplate("gemma", GEMMA, ("<end_of_turn>",)),
        ChosenTemplate("llama2", LLAMA_2, ("[INST]",)),
        ChosenTemplate("llama3", LLAMA_3, ("<|eot_id|>",)),
        ChosenTemplate("mistral", MISTRAL, ("[INST]",)),
        ChosenTemplate("phi3", PHI_3, ("<|end|>",)),
        ChosenTemplate("plain", PLAIN, ("\nUser:",)),  # or the model would go on and speak for the user
        ChosenTemplate("vicuna", VICUNA, ("USER:",)),
        ChosenTemplate("zephyr", ZEPHYR, ("<|user|>",)),
    )
}
DEFAULT = FAMILIES["plain"]  # for a model whose file has no template of use


def choose(choice: str) -> ChosenTemplate:
    """A family by its name, or a file of Jinja. Raises EspalierError."""
    return FAMILIES.get(choice.lower()) or ChosenTemplate(choice, _read(choice))


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES)
        # As an editor may have saved it: with a byte order mark, or with lines that end in CRLF.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        names = ", ".join(FAMILIES)
        raise EspalierError(f"--chat-template {path[:80]!r}: neither a file nor one of {names}") from None
    except OSError as error:
        raise EspalierError(f"--chat-template {path[:80]!r}: {error.strerror}") from None
    except ValueError:  # also a path with a NUL
        raise EspalierError(f"--chat-template {path[:80]!r}: not a file of UTF-8 text") from None

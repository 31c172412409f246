"""--chat-template: a family's name or a file. Each family's prompt is the one its publisher describes."""

from pathlib import Path

import pytest

from engine.errors import EspalierError
from engine.text.chat_template import ChatTemplate
from engine.text.template_families import FAMILIES, choose
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with()))
TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
]
EXPECTED = {
    "alpaca": "<s>S\n\n### Instruction:\nU\n\n### Response:\nA</s>\n\n### Instruction:\nV\n\n### Response:\n",
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "deepseek": "<s>S<｜User｜>U<｜Assistant｜>A</s><｜User｜>V<｜Assistant｜>",
    "gemma": "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
    "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]",
    "phi3": "<s><|system|>\nS<|end|>\n<|user|>\nU<|end|>\n"
    "<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
    "plain": "System: S\n\nUser: U\n\nAssistant: A\n\nUser: V\n\nAssistant:",
    "vicuna": "<s>S\n\nUSER: U\nASSISTANT: A</s>\nUSER: V\nASSISTANT:",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
}


def chosen(choice: str) -> ChatTemplate:
    """The template in the place of a file's that is of another family."""
    metadata = {"tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    return ChatTemplate.from_metadata(metadata, TOKENIZER, choose(choice))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_prompt(name: str) -> None:
    assert chosen(name).render(TALK) == EXPECTED[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_strings_that_end_an_answer_follow_the_family(name: str) -> None:
    chat = chosen(name.upper())
    assert chat.stops == FAMILIES[name].stops
    assert not chat.notes
    # The model would write one of them next, in place of the end of its turn or of the next one's start.
    rest = (
        EXPECTED[name].partition(
            "A",
        )[2]
        if name != "plain"
        else "\n" + EXPECTED[name]
    )
    assert any(stop in rest for stop in chat.stops)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf{% for m in messages %}\r\n<{{ m.content }}>{% endfor %}\r\n"]
)
def test_a_file_is_read_as_an_editor_saved_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.jinja"
    path.write_bytes(data)
    chat = chosen(str(path))
    assert chat.render(TALK[1:2]) == "<U>"
    assert chat.stops == ()


WRONG = {
    "empty": (b" \n", "is empty"),
    "broken": (b"{% for %}", "does not compile"),
    "deaf": (b"hello", "leaves out what the user says"),
    "not text": (b"\xff\xfe\x00", "not a file of UTF-8 text"),
    "long": (b"{{ messages }}" * 9000, "at most 65536"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_of_no_use_is_an_error_for_nobody_chooses_that(tmp_path: Path, name: str) -> None:
    data, reason = WRONG[name]
    path = tmp_path / "t.jinja"
    path.write_bytes(data)
    with pytest.raises(EspalierError, match=rf"^--chat-template [^\n]*{reason}[^\n]*$"):
        chosen(str(path))


@pytest.mark.parametrize("choice", ["chatlm", "no/such/file", "", "\0", "x" * 5000])
def test_a_name_that_is_none_is_told_the_names(choice: str) -> None:
    with pytest.raises(EspalierError, match=r"^--chat-template [^\n]+$") as refused:
        choose(choice)
    assert len(str(refused.value)) < 400


def test_a_wrong_name_is_told_the_names(tmp_path: Path) -> None:
    with pytest.raises(EspalierError, match=", ".join(FAMILIES)):
        choose("chatlm")
    with pytest.raises(EspalierError, match="directory"):
        choose(str(tmp_path))

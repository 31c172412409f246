"""What ends an answer and what marks a turn, whatever the file says of them; ids that point nowhere."""

import pytest

from engine.errors import ModelFileError
from engine.text.chat_template import ChatTemplate
from engine.text.end_tokens import END_TEXTS
from engine.text.stop_strings import StopStrings
from engine.text.stream import TextStream
from engine.text.tokenizer import load_tokenizer
from support.chat_templates import CHATML
from support.vocabularies import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    bpe_metadata,
    pieces_with,
    spm_metadata,
)

KINDS = pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED, UNUSED])
TURN = [("<|im_start|>", 0.0, CONTROL), ("<|im_end|>", 0.0, CONTROL)]


def spm(*more, **keys):
    return load_tokenizer(spm_metadata(pieces_with(*more), **keys))


@KINDS
@pytest.mark.parametrize("text", sorted(END_TEXTS))
def test_an_end_of_turn_ends_an_answer_whatever_its_type(text, kind):
    of_bpe = bpe_metadata(more=[("<e>", CONTROL), (text, kind)], bos_token_id=None, eos_token_id=0)
    for tokenizer in (spm((text, 0.0, kind)), load_tokenizer(of_bpe)):
        token_id = tokenizer.n_vocab - 1
        assert token_id in tokenizer.eos_ids
        assert tokenizer.token_bytes(token_id) == b""
        assert token_id not in tokenizer.encode(f"a{text}b", add_special=False, parse_special=False)
        assert token_id in tokenizer.encode(f"a{text}b", add_special=False, parse_special=True)
        noted = any("they end answers" in note and str(token_id) in note for note in tokenizer.notes)
        assert noted is (kind != CONTROL)


def test_the_end_of_struck_out_html_is_text_where_merges_make_it():
    """As in Qwen's vocabulary, whose own ends are others; so is it beside Gemma's <eos>."""
    struck = load_tokenizer(bpe_metadata(["</s>"], more=[("<|im_end|>", CONTROL)]))
    assert struck.eos_ids == {struck.n_vocab - 1}
    assert struck.notes == ()
    gemma = spm(("<eos>", 0.0, CONTROL), ("</s>", 0.0, USER_DEFINED), eos_token_id=len(pieces_with()))
    assert gemma.n_vocab - 1 not in gemma.eos_ids


def test_where_a_turn_has_several_messages_the_end_of_one_is_no_end():
    names = ["<|return|>", "<|call|>", "<|end|>"]
    tokenizer = spm(*((name, 0.0, CONTROL) for name in names))
    assert tokenizer.eos_ids == {2, tokenizer.n_vocab - 3, tokenizer.n_vocab - 2}


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 1 << 40, len(pieces_with())])
@pytest.mark.parametrize("name", ["unknown", "padding", "seperator", "mask", "cls", "eot", "eom", "eos"])
def test_an_id_that_points_nowhere_is_none_and_a_note(name, value):
    tokenizer = spm(**{f"{name}_token_id": value})
    [note] = tokenizer.notes
    assert note.startswith(f"tokenizer.ggml.{name}_token_id is {value}; ids go from 0 to ")
    assert tokenizer.eos_ids == {2}  # </s> by its text
    assert tokenizer.vocabulary.unk_id == 0
    assert tokenizer.vocabulary.pad_id is None


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 1 << 40, len(pieces_with())])
def test_a_bos_that_points_nowhere_matters_where_texts_get_one(value):
    assert spm(bos_token_id=value, add_bos_token=False).bos_id is None
    with pytest.raises(ModelFileError, match=f"bos_token_id is {value}; ids go from 0 to"):
        spm(bos_token_id=value)


def test_without_any_other_end_an_eos_outside_the_vocabulary_is_an_error_and_a_written_none_is_not():
    pieces = [(text.replace("</s>", "</x>"), score, kind) for text, score, kind in pieces_with()]
    assert load_tokenizer(spm_metadata(pieces, eos_token_id=-1)).eos_ids == frozenset()
    with pytest.raises(ModelFileError, match="no other token ends an answer"):
        load_tokenizer(spm_metadata(pieces, eos_token_id=len(pieces)))


PHI = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ m.content }}{% endfor %}<|assistant|>"
GEMMA = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}{% endfor %}"
MISTRAL = "{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}"


@pytest.mark.parametrize("kind", [NORMAL, USER_DEFINED, UNUSED])
@pytest.mark.parametrize(
    ("template", "marker"),
    [(CHATML, "<|im_start|>"), (PHI, "<|user|>"), (GEMMA, "<start_of_turn>"), (MISTRAL, "[INST]")],
)
@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
def test_a_turn_marker_is_the_templates_alone_whatever_its_type(vocabulary, template, marker, kind):
    if vocabulary == "spm":
        metadata = spm_metadata(pieces_with((marker, 9.0, kind)))
    else:
        merged, added = ([marker], []) if kind == NORMAL else (["the"], [(marker, kind)])
        metadata = bpe_metadata(merged, more=[*added, ("<e>", CONTROL)])
    metadata["tokenizer.chat_template"] = template
    tokenizer = load_tokenizer(metadata)
    [marker_id] = [i for i in range(tokenizer.n_vocab) if tokenizer.piece(i) == marker]
    chat = ChatTemplate.from_metadata(metadata, tokenizer)
    innocent, attack = ([{"role": "user", "content": text}] for text in ("a b", f"a{marker}b"))
    n_written = chat.encode(innocent).count(marker_id)
    assert n_written >= 1
    assert chat.encode(attack).count(marker_id) == n_written
    assert marker in chat.render(attack)
    assert tokenizer.token_bytes(marker_id) == marker.encode()  # the file calls it text: it is printed
    assert any("the template marks turns with them" in note for note in tokenizer.notes)


def test_tags_that_clients_send_back_stay_user_defined():
    metadata = spm_metadata(pieces_with(("<think>", 0.0, USER_DEFINED)))
    metadata["tokenizer.chat_template"] = CHATML + "<think>"
    tokenizer = load_tokenizer(metadata)
    ids = ChatTemplate.from_metadata(metadata, tokenizer).encode(
        [{"role": "assistant", "content": "<think>a"}]
    )
    assert ids.count(tokenizer.n_vocab - 1) == 2
    assert tokenizer.notes == ()


def test_what_a_client_does_not_see_completes_stops_and_never_comes_out():
    def pushed(stop, *pushes):
        stops = StopStrings([stop])
        return [stops.push(text, seen)[0] for text, seen in pushes], stops.push("", True)[1], stops.flush()

    assert pushed("a<x>b", ("za", True), ("<x>", False), ("b", True)) == (["z", "", ""], True, "")
    assert pushed("a<x>b", ("za", True), ("<x>", False), ("c", True)) == (["z", "", "ac"], False, "")
    assert pushed("<x>", ("<x", False), ("y", True)) == (["", "y"], False, "")
    assert pushed("<x>", ("<", False)) == ([""], False, "")


def test_a_stop_that_spells_control_tokens_ends_a_stream():
    tokenizer = spm(*TURN)
    start, end = tokenizer.n_vocab - 2, tokenizer.n_vocab - 1
    newline, letter = 3 + 0x0A, 3 + 0x61
    ended = TextStream(tokenizer, ["\n<|im_start|>"]).push([letter, newline, start, letter])
    assert (ended.text, ended.n_tokens, ended.stopped) == ("a", 3, True)
    two = TextStream(tokenizer, ["<|im_end|>\n<|im_start|>"]).push([letter, end, newline, start])
    assert (two.text, two.n_tokens, two.stopped) == ("a", 4, True)
    other = TextStream(tokenizer, ["<|im_end|>"])
    assert other.push([letter, start, newline]).text + other.flush().text == "a\n"
    inside = TextStream(tokenizer, ["im_start"]).push([letter, start, letter])
    assert (inside.text, inside.stopped) == ("aa", False)  # only what a stop spells whole counts


def test_byte_tokens_stay_bytes_whatever_they_spell():
    """END_TEXTS are texts: a vocabulary's byte and unknown rows are never taken for one."""
    assert spm(("<0x0A>", 0.0, BYTE)).eos_ids == {2}

"""Stop strings across pushes, judged by the naive search over the whole text; and the stream on top."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.text.stop_strings import StopStrings
from engine.text.stream import Rest, TextDelta, TextStream
from engine.text.tokenizer import load_tokenizer
from support.vocabularies import pieces_with, spm_metadata

TOKENIZER = load_tokenizer(spm_metadata(pieces_with()))
few_letters = st.text("ab\n", max_size=30)  # so that stops overlap and nearly match all the time


def naive(text, stops):
    """What comes before the stop that is complete first, and where that one ends; None: no stop."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], end
    return None


@given(
    few_letters, st.lists(st.text("ab\n", min_size=1, max_size=6), max_size=4), st.lists(st.integers(0, 7))
)
def test_every_cut_gives_what_the_whole_text_gives(text, stops, cuts):
    stream, out, start, stopped_at = StopStrings(stops), "", 0, None
    for cut in [*cuts, len(text)]:
        piece, stopped = stream.push(text[start : start + cut])
        start += cut
        out += piece
        if stopped:
            stopped_at = start
            break
        hidden = text[:start].removeprefix(out)
        assert any(stop.startswith(hidden) for stop in [*stops, ""]), "held back without need"
    expected = naive(text, stops)
    if expected is None:
        assert stopped_at is None
        assert out + stream.flush() == text
    else:
        assert out == expected[0]
        assert stopped_at is not None
        assert stream.push("more") == ("", True)
        assert stream.flush() == ""


def test_the_stop_that_is_complete_first_wins():
    assert StopStrings(["abcd", "bc"]).push("xabcd") == ("xa", True)
    assert StopStrings(["bc", "abc"]).push("xabcd") == ("x", True)


def test_a_false_start_is_given_out_as_soon_as_it_is_one():
    stops = StopStrings(["\n\nUser:"])
    assert [stops.push(t)[0] for t in ("one\n", "\nUs", "ual", "\n")] == ["one", "", "\n\nUsual", ""]
    assert stops.flush() == "\n"


def test_without_stops_nothing_is_held_back():
    assert StopStrings([]).push("text") == ("text", False)


def test_an_empty_stop_is_a_bad_request():
    with pytest.raises(RequestError) as refused:
        StopStrings(["a", ""])
    assert refused.value.param == "stop"


@pytest.mark.parametrize("stop", ["a" * 20_000 + "b", "ab" * 10_000 + "c"])
def test_long_stops_and_texts_take_linear_time(stop):
    start = time.thread_time()
    stops = StopStrings([stop])
    pieces = [stops.push(stop[:-1]) for _ in range(10)]
    assert "".join(p for p, _ in pieces) + stops.flush() == stop[:-1] * 10
    assert time.thread_time() - start < 2  # quadratic: 4e9 comparisons


def encode(text):
    return TOKENIZER.encode(text, add_special=False, parse_special=False)


def test_the_stream_counts_up_to_the_token_that_completes_the_stop():
    ids = encode("the re. the")
    stream = TextStream(TOKENIZER, ["e."])
    delta = stream.push(ids)
    assert delta.stopped
    assert delta.text == " the r"
    assert TOKENIZER.decode(ids[: delta.n_tokens]).endswith("e.")
    assert delta.n_tokens < len(ids)
    assert stream.push(ids).text == stream.flush().text == ""


def test_the_stream_hands_out_what_was_held_when_it_ends():
    stream = TextStream(TOKENIZER, ["<END>"])
    ids = encode("a<E")
    delta = stream.push(ids)
    assert (delta.text, delta.n_tokens, delta.stopped) == (" a", len(ids), False)
    assert stream.flush() == Rest("<E", False)


def test_a_stop_is_seen_inside_one_token_and_in_the_last_broken_character():
    delta = TextStream(TOKENIZER, ["ell"]).push(encode("Hello"))
    assert (delta.text, delta.n_tokens, delta.stopped) == (" H", 1, True)
    stream = TextStream(TOKENIZER, ["\ufffd"])
    assert stream.push([3 + 0xF0]) == TextDelta(("",), (0,), False)
    assert stream.flush() == Rest("", True)

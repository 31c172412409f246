"""The plain search for token texts: the judge of the native one (kernels/cpu/text/token_finder.h)."""

from collections.abc import Iterator, Mapping


def spans(ids: Mapping[str, int], text: str, overlapping: bool) -> Iterator[tuple[int, int, int]]:
    """(start, end, id) of each token text: leftmost first, of several at one place the longest."""
    start = 0
    while start < len(text):
        here = [t for t in ids if t and text.startswith(t, start)]
        if here:
            longest = max(here, key=len)
            yield start, start + len(longest), ids[longest]
        start += len(longest) if here and not overlapping else 1

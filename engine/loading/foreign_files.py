"""What a file is when it is not a GGUF this build reads: named, so that the person knows what to fetch."""

_MAGICS = (
    (b"PK\x03\x04", "a ZIP archive (a PyTorch checkpoint, or a download not unpacked)"),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint)"),
    (b"lmgg", "a GGML file of before August 2023"),
    (b"GGML", "a GGML file of before August 2023"),
    (b"fmgg", "a GGMF file of before August 2023"),
    (b"tjgg", "a GGJT file of before August 2023"),
    (b"ggjt", "a GGJT file of before August 2023"),
    (b"algg", "a GGLA adapter file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to (run `git lfs pull`)"),
    (b"FUGG", "a big-endian GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program, not a model"),
    (b"%PDF", "a PDF document"),
)
_CONVERT = "; this build reads GGUF version 2 and 3, little endian"


def describe_foreign(head: bytes) -> str:
    """One clause about a file that does not begin with GGUF. head: its first bytes (64 are enough)."""
    return _recognise(head) + _CONVERT


def _recognise(head: bytes) -> str:
    for magic, description in _MAGICS:
        if head.startswith(magic):
            return f"it is {description}"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "it is a safetensors file"
    if _begins_as_imatrix(head):
        return "it is an importance matrix (imatrix.dat), which guides a quantizer; give the quantized model"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page (a download that led to a login or error page?)"
    if text.startswith((b"{", b"[")):
        return "it is a JSON text"
    if not any(head):
        return "it begins with zeros (an interrupted download?)"
    return f"it begins with {head[:4]!r} where a GGUF file has b'GGUF'"


def _begins_as_imatrix(head: bytes) -> bool:
    """The number of entries, then the length and the text of a tensor's name, `blk.0.attn_q.weight` or the like."""
    n_entries, n_bytes = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4))
    name = head[8 : 8 + n_bytes]
    likely = (
        0 < n_entries < 1 << 20
        and 0 < n_bytes <= 128
        and name.startswith((b"blk.", b"output", b"token_embd"))
    )
    return likely and name.isascii() and name.decode().isprintable()


def describe_version(version: int) -> str:
    """One clause about a GGUF version that this build does not read."""
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in (1, 2, 3):
        return f"a big-endian file of version {swapped}{_CONVERT}"
    if version == 1:
        return f"version 1, in use for some days of August 2023{_CONVERT}"
    return f"version {version}{_CONVERT}"

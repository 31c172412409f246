"""What the command line's contract names and this build does not have yet: refused in words, never ignored."""

LATER_COMMANDS = {
    "quantize": "comes with the quantizer and is not in this build",
    "imatrix": "comes with the quantizer and is not in this build",
}
LATER_FLAGS = {
    "--draft": "comes with speculation and is not in this build",
    "--models-dir": "comes with serving several models and is not in this build",
    "--kl-base": "comes with the quality tools and is not in this build; perplexity works without it",
    "--serve": "is not in this build; bench measures in this process",
}

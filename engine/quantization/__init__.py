"""From float weights to file bytes, and the files that hold them."""

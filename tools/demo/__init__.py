"""The demo model that ships with Espalier: its corpus, its training, and where it lies."""

from pathlib import Path

#: What `espalier serve` and `espalier chat` load when no MODEL is given.
DEMO_MODEL = Path(__file__).parent / "espalier-demo.gguf"

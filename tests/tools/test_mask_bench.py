"""The bench of masks runs on any vocabulary and tells of every form."""

from pathlib import Path

import pytest

from support.tiny_models import write_tiny_llama
from tools.mask_bench import FORMS, main


def test_every_form_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(write_tiny_llama(tmp_path / "tiny.gguf"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[2:]] == [form.name for form in FORMS]
    assert all("us, p99" in line for line in lines[2:])

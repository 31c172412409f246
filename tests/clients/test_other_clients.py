"""Clients that bring requirements of their own: each runs in an environment made for it, against one live server.

Calls are a scripted model's where the client lets the model choose, and a grammar's where it asks for one. CI runs
those that take least: installing the others takes a minute each.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.slices import skip_in_slice

PROGRAMS = Path(__file__).parent / "programs"
#: Program -> what it needs, as pip or npm names it.
PYTHON = {
    "litellm_client.py": ["litellm==1.110.2"],
    "instructor_client.py": ["instructor==1.17.0"],
    "pydantic_ai_client.py": ["pydantic-ai-slim[openai]==2.68.0"],
    "llama_index_client.py": ["llama-index-llms-openai-like==0.8.1"],
    "lm_eval_client.py": ["lm-eval[api]==0.4.13"],
    "langchain_suite.py": [
        "langchain-openai==1.7.3",
        "langchain-tests==1.1.9",
        "pytest-asyncio==1.5.0",
        "pytest==9.2.0",
    ],
}
NODE = {
    "openai_client.mjs": ["openai@7.59.0", "zod@4.6.7"],
    "ai_sdk_client.mjs": ["ai@7.0.173", "@ai-sdk/openai-compatible@2.0.92", "zod@4.6.7"],
}
SLICE = {"pydantic_ai_client.py", "openai_client.mjs", "ai_sdk_client.mjs"}
pytestmark = pytest.mark.slow


def skip_unless_in_slice(program: str) -> None:
    if program not in SLICE:
        skip_in_slice()


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def installed(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        pytest.skip(f"cannot be installed here: {done.stderr.strip()[-200:]}")


@pytest.mark.parametrize("program", PYTHON)
def test_a_python_client_gets_what_it_asks_for(base_url: str, tmp_path: Path, program: str) -> None:
    skip_unless_in_slice(program)
    assert run(sys.executable, "-m", "venv", "venv", folder=tmp_path).returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    installed(run(python, "-m", "pip", "install", "-q", *PYTHON[program], folder=tmp_path))
    variables = {"BASE_URL": base_url, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    variables |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    shutil.copy(PROGRAMS / program, tmp_path / program)
    command = [program, base_url]
    if program == "langchain_suite.py":
        settings = [
            "asyncio_mode=auto",
            *(f"asyncio_default_{what}_loop_scope=session" for what in ("test", "fixture")),
        ]
        options = [part for setting in settings for part in ("-o", setting)]
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *options, program]
    done = run(python, *command, folder=tmp_path, **variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("program", NODE)
def test_a_node_client_gets_what_it_asks_for(base_url: str, tmp_path: Path, program: str) -> None:
    skip_unless_in_slice(program)
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    (tmp_path / "package.json").write_text('{"private": true}')
    shutil.copy(PROGRAMS / program, tmp_path)
    options = ("--no-audit", "--no-fund", "--no-package-lock")
    installed(run("npm", "install", *options, *NODE[program], folder=tmp_path))
    done = run("node", program, base_url, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

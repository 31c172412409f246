"""docs/terminal.svg: a real run, drawn. `make picture` starts the server, sends the README's curl and draws both.

Everything in the picture was printed by this run; only the prompts are added.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 100
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}">
<style>.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }}
{styles}</style>
<defs>{lines}</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="8" fill="#16181d"/>
<g transform="translate(9, 5) scale(0.98)"><g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    command = readme_curl()
    with subprocess.Popen(
        [sys.executable, "-c", "from tools.cli import main; main()", "serve"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": str(COLUMNS)},
    ) as server:  # fmt: skip
        show_prompt(console, "make serve")
        show_until_served(console, server)
        show_prompt(console, command)
        answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        console.print(Text(answer.stdout))
        server.terminate()
    svg = console.export_svg(title="espalier", code_format=SVG)
    (ROOT / "docs" / "terminal.svg").write_text(svg)


def readme_curl() -> str:
    found = re.search(r"```sh\n(curl .*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def show_prompt(console: Console, command: str) -> None:
    console.print(Text.assemble(("$ ", "green"), (command, "bold")))


def show_until_served(console: Console, server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    for line in server.stderr:
        console.print(Text.from_ansi(line.rstrip("\n")))
        if "curl" in line:
            break
    time.sleep(0.5)


if __name__ == "__main__":
    if shutil.which("curl") is None:
        sys.exit("the picture needs curl")
    main()

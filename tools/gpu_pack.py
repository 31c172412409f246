"""What `make gpu-check` needs and a bare machine lacks, gathered into one folder: wheels and small models.

    python -m tools.gpu_pack [--into carry] [--shared ../shared] [--python-version 3.12]

Run where there is a network; the checkout with this folder in it is then all that goes to the machine with the card.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: To build the extension, and what engine and bench import; what these need comes with them.
#: NumPy, CuPy and pytest are the machine's own.
WHEELS = ("nanobind", "cmake", "ninja", "jinja2", "tokenizers", "typer", "rich")
#: glibc versions that wheels for x86-64 are built against; pip matches them one by one.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
#: Of the shared data: one model per KT type, and the peer's mix of several types.
MODELS = tuple(
    f"stories-wide256-{name}.gguf"
    for name in ("IQ1_KT-pure", "IQ2_KT-pure", "IQ2_KT", "IQ3_KT-pure", "IQ4_KT-pure")
)
MAX_BYTES = 60 << 20  # machines with a card are reached by narrow ways


class PackError(Exception):
    """One line for the person who packs."""


def pack(into: Path, shared: Path, python_version: str) -> int:
    """Fill `into` anew; returns its bytes. Raises PackError."""
    missing = [name for name in MODELS if not (shared / "models" / name).is_file()]
    if missing:
        raise PackError(
            f"{shared / 'models'} has no {', '.join(missing)}; --shared says where the models are"
        )
    if into.exists() and not (into / "wheels").is_dir() and any(into.iterdir()):
        raise PackError(f"{into} holds something else; --into names another folder")
    shutil.rmtree(into, ignore_errors=True)
    (into / "wheels").mkdir(parents=True)
    (into / "shared" / "models").mkdir(parents=True)
    for name in MODELS:
        shutil.copyfile(shared / "models" / name, into / "shared" / "models" / name)
    _download(into / "wheels", python_version)
    n_bytes = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    if n_bytes > MAX_BYTES:
        raise PackError(f"{into} has {n_bytes >> 20} MiB, more than the {MAX_BYTES >> 20} it may")
    return n_bytes


def _download(into: Path, python_version: str) -> None:
    platforms = [f"--platform={name}_x86_64" for name in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"]
    target = ["--implementation=cp", f"--python-version={python_version}", *platforms]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    result = subprocess.run(
        [*command, *target, *constraints, "-d", str(into), *WHEELS],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no words from it"])[-1]
        raise PackError(f"pip cannot get the wheels for Python {python_version}: {last}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu-pack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--into", type=Path, default=ROOT / "carry", help="the folder; what was packed there goes"
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the shared data")
    parser.add_argument("--python-version", default="3.12", help="of the machine with the card")
    options = parser.parse_args(arguments)
    try:
        n_bytes = pack(options.into, options.shared, options.python_version)
    except PackError as error:
        print(f"gpu-pack: {error}", file=sys.stderr)
        return 2
    print(f"{options.into}: {n_bytes / 2**20:.0f} MiB, for Python {options.python_version} on x86-64")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

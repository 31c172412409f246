"""Everything that only a card can show, in one run on a bare machine: right first, then how fast.

    python3 -m tools.gpu_check [--steps kernels,tokens] [--seed N] [--carry carry] [--out build/gpu_check] [--emulate]

Needs Python, CuPy, NumPy, pytest and g++ there, and the folder that `make gpu-pack` fills. It works on a copy of the
sources, so the checkout stays as it is. Standard library only: nothing else is installed when it starts.
"""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("engine", "kernels", "server", "tools", "tests", "CMakeLists.txt", "pyproject.toml")
NEEDED = ("numpy", "pytest")  # and cupy, which must also find a card
#: Imported as; of what the wheels bring. A machine that has them keeps its own.
CARRIED = ("nanobind", "jinja2", "tokenizers", "typer", "rich")
CARD = """
import cupy
card = cupy.cuda.runtime.getDeviceProperties(0)
print(f"{card['name'].decode()} sm_{card['major']}{card['minor']}, driver {cupy.cuda.runtime.driverGetVersion()}")
"""
KERNEL_TESTS = (
    "tests/cuda/test_linear_kernels.py",
    "tests/cuda/test_planes.py",
    "tests/cuda/test_attention_kernels.py",
    "tests/cuda/test_tensor_attention.py",
    "tests/cuda/test_latent_ops.py",
    "tests/cuda/test_expert_kernels.py",
    "tests/cuda/test_delta_kernels.py",
    "tests/cuda/test_activation_kernels.py",
    "tests/cuda/test_sampling_kernels.py",
    "tests/kernels/test_choice.py",
)
TOKEN_TESTS = ("tests/cuda/test_whole_model.py",)
BENCH_TESTS = ("tests/cuda/test_cuda_bench.py",)
#: compute-sanitizer slows a kernel down a hundredfold: the KT type with every form, one of the others.
SANITIZED = "IQ2_KT or Q4_K or ragged_decodes or rms_norm"
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
BENCHES = (
    ("llama-3.1-8b", "IQ2_KT"),
    ("llama-3.1-8b", "IQ3_KT"),
    ("llama-3.1-8b", "IQ4_KT"),
    ("llama-3.1-8b", "IQ1_KT"),
)


class CheckError(Exception):
    """One line: what is missing here and what would work."""


@dataclass(frozen=True)
class Place:
    """Where this run works. environment: of every command."""

    tree: Path  # a copy of the sources
    out: Path
    environment: Mapping[str, str]
    emulate: bool
    log: TextIO

    def run(self, *command: str) -> bool:
        """Whether it ended well. Its output goes to the log and to the terminal as it comes."""
        self.say("$ " + " ".join(command))
        with subprocess.Popen(
            command,
            cwd=self.tree,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                self.say(line.rstrip("\n"))
        return process.returncode == 0

    def python(self, *arguments: str) -> bool:
        return self.run(sys.executable, *arguments)

    def say(self, line: str) -> None:
        print(line, flush=True)
        print(line, file=self.log, flush=True)


def build_extension(place: Place) -> bool:
    """The CPU backend, which the card's results are compared with."""
    build = str(place.out / "native")
    settings = [
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_INSTALL_PREFIX={place.tree}",
        "-DCMAKE_BUILD_TYPE=Release",
    ]
    return (
        place.run("cmake", "-S", ".", "-B", build, "-G", "Ninja", *settings)
        and place.run("cmake", "--build", build)
        and place.run("cmake", "--install", build)
    )


def kernel_tests(place: Place) -> bool:
    return place.python("-m", "pytest", *KERNEL_TESTS)


def sanitizer(place: Place) -> bool:
    """Out of bounds, races within a barrier interval (which no emulation sees), barriers, unwritten memory."""
    pytest = (sys.executable, "-m", "pytest", "-x", *KERNEL_TESTS, "-k", SANITIZED)
    options = ("--error-exitcode", "1", "--target-processes", "all")
    return all(place.run("compute-sanitizer", "--tool", tool, *options, *pytest) for tool in SANITIZER_TOOLS)


def token_tests(place: Place) -> bool:
    return place.python("-m", "pytest", *TOKEN_TESTS)


def benches(place: Place) -> bool:
    """Whole models with the kernels of a step, then every form of every linear kernel.

    Without a card the CPU backend's, of a small model, and the tests of the benches: the steps are seen to work.
    """
    if place.emulate:
        model = f"{place.environment['ESPALIER_SHARED']}/models/stories-wide256-IQ2_KT-pure.gguf"
        on_cpu = bench(place, model, "--device", "cpu", "-p", "16", "-n", "4", "-r", "1")
        return on_cpu and place.python("-m", "pytest", *BENCH_TESTS)
    models = (bench(place, "--device", "cuda", "--synthetic", *shape_and_type) for shape_and_type in BENCHES)
    return all(models) and place.python("-m", "tools.cuda_bench", "--out", str(place.out / "bench_cuda"))


def bench(place: Place, *arguments: str) -> bool:
    return place.python("-c", "from tools.cli import main; main()", "bench", "--json", *arguments)


#: In their order. What follows a step that failed is not run: a time of wrong results says nothing.
STEPS: dict[str, Callable[[Place], bool]] = {
    "extension": build_extension,
    "kernels": kernel_tests,
    "sanitizer": sanitizer,
    "tokens": token_tests,
    "benches": benches,
}
NEED_A_CARD = ("sanitizer",)


def card(emulate: bool) -> str:
    """The card's name and architecture. Raises CheckError."""
    missing = [name for name in (*NEEDED, *(() if emulate else ("cupy",))) if find_spec(name) is None]
    if missing:
        raise CheckError(f"{sys.executable} has no {', '.join(missing)}; PYTHON=... names another Python")
    if shutil.which("g++") is None:
        raise CheckError("there is no g++ to build the CPU backend with")
    if emulate:
        return "no card, emulated"
    result = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no words from CuPy"])[-1]
        raise CheckError(f"no usable GPU ({last}); --emulate runs what needs none")
    return result.stdout.strip()


def chosen_steps(names: str | None, emulate: bool) -> list[str]:
    """In the order of STEPS; the extension is always built. Raises CheckError."""
    possible = [name for name in STEPS if not (emulate and name in NEED_A_CARD)]
    wanted = names.split(",") if names else possible
    unknown = [name for name in wanted if name not in STEPS]
    if unknown:
        raise CheckError(f"no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    if refused := [name for name in wanted if name not in possible]:
        raise CheckError(f"{', '.join(refused)}: only a card can show that, not --emulate")
    if "sanitizer" in wanted and shutil.which("compute-sanitizer") is None:
        raise CheckError(
            "there is no compute-sanitizer on the PATH; --steps without `sanitizer` leaves it out"
        )
    return [name for name in STEPS if name in {*wanted, "extension"}]


def install_carried(carry: Path, out: Path) -> list[str]:
    """Folders for PYTHONPATH: what this Python lacks of CARRIED, from the wheels. Raises CheckError."""
    missing = [name for name in CARRIED if find_spec(name) is None]
    missing += [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    if not missing:
        return []
    wheels = sorted(str(path) for path in (carry / "wheels").glob("*.whl"))
    if not wheels:
        raise CheckError(
            f"no wheels in {carry / 'wheels'} and no {', '.join(missing)} here; make gpu-pack fills it"
        )
    site = out / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--upgrade",
        "--target",
        str(site),
    ]
    result = subprocess.run([*pip, *wheels], capture_output=True, text=True, check=False)
    if result.returncode:
        raise CheckError(
            f"pip cannot install the wheels: {(result.stderr.strip().splitlines() or ['no words'])[-1]}"
        )
    return [str(site)]


def copy_sources(out: Path) -> Path:
    tree = out / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copyfile(source, tree / name)
    return tree


def environment(folders: Sequence[str], tree: Path, carry: Path, emulate: bool, seed: int) -> dict[str, str]:
    result = dict(os.environ)
    result["PYTHONPATH"] = os.pathsep.join([str(tree), *folders])
    result["PATH"] = os.pathsep.join([*(f"{folder}/bin" for folder in folders), result.get("PATH", "")])
    result["PYTHONUNBUFFERED"] = "1"
    result["ESPALIER_SHARED"] = str((carry / "shared").resolve())
    result["ESPALIER_REQUIRE_SHARED"] = "1"
    result["ESPALIER_TEST_ON_CARD"] = "0" if emulate else "1"
    result["ESPALIER_TEST_SEED"] = str(seed)
    return result


def run_steps(place: Place, names: Sequence[str]) -> bool:
    """A line for each, at the end; whether all ended well."""
    lines, good = [], True
    for name in names:
        started = time.perf_counter()
        was_run = good
        good = good and STEPS[name](place)
        ended = (
            "not run"
            if not was_run
            else f"{'ok' if good else 'FAILED'}, {time.perf_counter() - started:.0f} s"
        )
        lines.append(f"{name}: {ended}")
    for line in lines:
        place.say(line)
    return good


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu-check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", help=f"some of {','.join(STEPS)}; all by default")
    parser.add_argument("--seed", type=int, help="of the tests' random inputs; a fresh one by default")
    parser.add_argument("--carry", type=Path, default=ROOT / "carry", help="what make gpu-pack filled")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "gpu_check", help="log.txt and work files"
    )
    parser.add_argument(
        "--emulate", action="store_true", help="no card: all but the sanitizer, on the emulation"
    )
    options = parser.parse_args(arguments)
    try:
        seed = secrets.randbelow(2**31) if options.seed is None else options.seed
        if seed < 0:
            raise CheckError(f"--seed is {seed}; it is at least 0")
        name = card(options.emulate)
        names = chosen_steps(options.steps, options.emulate)
        out = options.out.resolve()
        folders = install_carried(options.carry, out)
        tree = copy_sources(out)
    except CheckError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    with (out / "log.txt").open("w") as log:
        place = Place(
            tree, out, environment(folders, tree, options.carry, options.emulate, seed), options.emulate, log
        )
        place.say(f"{name}, seed {seed}, Python {sys.version.split()[0]}")
        return 0 if run_steps(place, names) else 1


if __name__ == "__main__":
    raise SystemExit(main())

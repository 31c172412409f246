"""`make image-check`: build, run and curl the images as compose does. tests/test_containers.py lints them.

Needs root, buildah, podman and runc, no Docker engine. Where no image registry can be reached, a base image is made
from Debian's packages (mmdebstrap) under the real one's name; its Python is the same 3.11.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "python:3.11-slim-bookworm"
PORT = 18765
URL = f"http://127.0.0.1:{PORT}"
#: nofile and nproc as a container engine would set them; a build inside another container may not raise them.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
MAX_CPU_IMAGE_MB = 400
MAX_START_SECONDS = 5.0
QUESTION = {"messages": [{"role": "user", "content": "Hello! What are you?"}], "temperature": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuda", action="store_true", help="build the CUDA image as well (over a gigabyte)")
    arguments = parser.parse_args()
    missing = [tool for tool in ("buildah", "podman", "runc") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"image-check needs {', '.join(missing)}: apt-get install buildah podman runc mmdebstrap")
    provide_base()
    build("Dockerfile", "espalier")
    check_size("espalier")
    check_service("espalier")
    if arguments.cuda:
        build("docker/cuda.Dockerfile", "espalier-cuda")
        check_cuda("espalier-cuda")
    print("image-check: all good")


def run(*command: str, **options: object) -> str:
    """Its standard output. The command's failure ends the check with what it printed."""
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(
            f"image-check: {' '.join(command[:4])} ... failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return str(done.stdout)


def say(text: str) -> None:
    print(f"image-check: {text}", flush=True)


def provide_base() -> None:
    """The base image in local storage: pulled, or made from this machine's Debian sources."""
    if subprocess.run(["buildah", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return
    if subprocess.run(["buildah", "pull", "-q", BASE], capture_output=True, check=False).returncode == 0:
        return
    say(f"{BASE} cannot be pulled; making a stand-in from Debian's packages")
    sources = "\n\n".join(p.read_text() for p in Path("/etc/apt/sources.list.d").glob("debian*.sources"))
    unneeded = (
        "/usr/lib/*/libpython*.a",
        *(f"/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")),
    )
    lean = [f"--dpkgopt=path-exclude={pattern}" for pattern in unneeded]
    with tempfile.TemporaryDirectory() as folder:
        tar = f"{folder}/base.tar"
        # python3-dev has the headers that the real image has.
        packages = "--include=python3-venv,python3-dev,ca-certificates"
        run("mmdebstrap", "--variant=minbase", packages, *lean, "bookworm", tar, "-", input=sources)
        container = run("buildah", "from", "scratch").strip()
        run("buildah", "add", "-q", container, tar, "/")
        run("buildah", "commit", "-q", "--format", "docker", container, f"localhost/{BASE}")
        run("buildah", "rm", container)


def build(dockerfile: str, tag: str) -> None:
    started = time.monotonic()
    # A machine's own certificates and package index pass to the build; nothing of them stays in the image.
    mounts = [p for p in ("/etc/ssl/certs", "/etc/pip.conf") if Path(p).exists()]
    volumes = [flag for path in mounts for flag in ("--volume", f"{path}:{path}:ro")]
    run("buildah", "bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--network", "host",
        *LIMITS, *volumes, "-f", dockerfile, "-t", tag, ".")  # fmt: skip
    say(f"{tag}: built in {time.monotonic() - started:.0f} s")


def image_config(tag: str) -> dict:
    return json.loads(run("buildah", "inspect", "--type", "image", tag))["Docker"]


def check_size(tag: str) -> None:
    size = int(run("podman", "image", "inspect", "--format", "{{.Size}}", tag)) / 1e6
    config = image_config(tag)["config"]
    say(f"{tag}: {size:.0f} MB, user {config['User']}, entry point {config['Entrypoint']}")
    if size > MAX_CPU_IMAGE_MB:
        sys.exit(f"image-check: {tag} is {size:.0f} MB; at most {MAX_CPU_IMAGE_MB}")
    if config["User"].split(":")[0] in ("", "0", "root"):
        sys.exit(f"image-check: {tag} runs as root")


@contextmanager
def service(tag: str) -> Iterator[str]:
    """A container as compose starts it: read-only root, no capabilities, no way to gain any."""
    container = run("podman", "--runtime", "runc", "run", "-d", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all",
                    "--security-opt", "no-new-privileges", "--network", "host", *LIMITS,
                    "-e", f"ESPALIER_PORT={PORT}", "-e", "ESPALIER_HOST=127.0.0.1", tag).strip()  # fmt: skip
    try:
        yield container
    finally:
        subprocess.run(["podman", "rm", "-f", container], capture_output=True, check=False)


def check_service(tag: str) -> None:
    started = time.monotonic()
    with service(tag) as container:
        await_ready(container)
        seconds = time.monotonic() - started
        say(f"{tag}: ready after {seconds:.1f} s")
        if seconds > MAX_START_SECONDS:
            sys.exit(f"image-check: {tag} took {seconds:.1f} s to start; at most {MAX_START_SECONDS:.0f}")
        say(f"{tag}: {ask()!r}")
        run("podman", "healthcheck", "run", container)
        check_graceful_stop(tag, container)


def await_ready(container: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{URL}/ready", timeout=2)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"image-check: not ready after 30 s:\n{run('podman', 'logs', container)[-2000:]}")


def post(body: dict):  # type: ignore[no-untyped-def]
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{URL}/v1/chat/completions", json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=60)


def ask() -> str:
    return str(json.load(post(QUESTION))["choices"][0]["message"]["content"])


def check_graceful_stop(tag: str, container: str) -> None:
    """SIGTERM in the middle of a stream: the stream ends with [DONE], the process with 0."""
    with post(QUESTION | {"stream": True, "ignore_eos": True, "max_tokens": 200}) as stream:
        stream.readline()
        run("podman", "kill", "--signal", "TERM", container)
        last = [line for line in stream.read().decode().splitlines() if line][-1]
    status = run("podman", "wait", container).strip()
    say(f"{tag}: SIGTERM in a stream: it ended with {last!r}, the process with status {status}")
    if last != "data: [DONE]" or status != "0":
        sys.exit("image-check: that is no graceful stop")


def check_cuda(tag: str) -> None:
    """What a machine without a GPU can show: the wheels are there, and the missing driver is one line."""
    check = "import cupy, kernels; print(cupy.__version__)"
    start = ["podman", "--runtime", "runc", "run", "--rm", "--no-healthcheck", "--read-only", "--tmpfs", "/tmp",
             "--volume", "/cache", "--network", "host", *LIMITS]  # fmt: skip
    say(f"{tag}: CuPy {run(*start, '--entrypoint', 'python3', tag, '-c', check).strip()}")
    command = [*start, tag, "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    say(f"{tag}: without a GPU: status {done.returncode}, {done.stderr.strip()[-200:]!r}")
    if done.returncode != 2 or len(done.stderr.strip().splitlines()) != 1:
        sys.exit("image-check: that should be one line and status 2")


if __name__ == "__main__":
    main()

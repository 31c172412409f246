# Everything a person types. No logic here: each target is one or two commands.
PYTHON ?= python3
VENV := .venv
PIP_ENV := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1
NATIVE := pyproject.toml CMakeLists.txt constraints.txt $(wildcard kernels/cpu/*.h kernels/cpu/*.cpp kernels/cpu/tiles/*.h kernels/cpu/text/*.h kernels/common/*.h)
MODEL ?=
ARGS ?=

.PHONY: serve test test-slow fuzz check bench build format docs golden clean image-check picture

serve: $(VENV)/installed
	@exec $(VENV)/bin/espalier serve $(MODEL) $(ARGS)

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/installed-slow
	$(VENV)/bin/python -m pytest -n 2 -m slow

# Ten minutes for each of the GGUF reader, the tokenizer builder and the template renderer.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/installed-slow
	ESPALIER_FUZZ_SECONDS=$(FUZZ_SECONDS) $(VENV)/bin/python -m pytest tests/engine/test_fuzz.py

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(MAKE) cuda-compile
	$(MAKE) test

.PHONY: cuda-compile cuda-count gpu-pack gpu-check bench-cuda
# Every CUDA kernel for every architecture: registers, spills. No GPU needed; what has not changed is not compiled.
cuda-compile: $(VENV)/installed-dev
	$(VENV)/bin/python -m tools.cuda_compile $(ARGS)

# Machine instructions per weight of the hot kernels.
cuda-count: $(VENV)/installed-dev
	$(VENV)/bin/python -m tools.cuda_count $(ARGS)

# What `make gpu-check` needs and a bare machine lacks, into carry/.
gpu-pack: $(VENV)/installed-dev
	$(VENV)/bin/python -m tools.gpu_pack $(ARGS)

# On a machine with a card: Python with CuPy, NumPy and pytest, no virtual environment, no network.
gpu-check:
	$(PYTHON) -m tools.gpu_check $(ARGS)

# On a machine with a card: every form of every linear kernel, CSV and plot in build/bench_cuda.
bench-cuda: $(VENV)/installed-dev
	$(VENV)/bin/python -m tools.cuda_bench $(ARGS)

bench: $(VENV)/installed
	$(VENV)/bin/espalier bench --synthetic llama-0.85b IQ2_KT $(ARGS)

# Each kernel beside what this machine can do, into build/kernel_bench. ARGS=--quick for the shortest.
.PHONY: bench-kernels
bench-kernels: $(VENV)/installed-dev
	$(VENV)/bin/python -m tools.kernel_bench $(ARGS)

build: $(VENV)/installed

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# The reference pages in docs/, from the tables in the code and the lists of published models.
docs: $(VENV)/installed
	$(VENV)/bin/python -m tools.reference_pages
	PYTHONPATH=tests:. $(VENV)/bin/python -m support.models_page

# docs/terminal.svg, from a real run.
picture: $(VENV)/installed
	PYTHONPATH=. $(VENV)/bin/python docs/terminal_picture.py

# What tests/engine/test_models.py and test_architectures.py compare with, from the independent implementation.
golden: $(VENV)/installed-slow
	PYTHONPATH=tests:. $(VENV)/bin/python -m support.transformers_oracle
	PYTHONPATH=tests:. $(VENV)/bin/python -m support.checkpoints

clean:
	rm -rf $(VENV) build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Espalier needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# The editable install builds the native module; the checkout's Python files run as they are.
# Without build isolation its tools keep their paths, so that a second install compiles only what changed.
INSTALL := $(PIP_ENV) $(VENV)/bin/python -m pip install -q --no-build-isolation

$(VENV)/build-tools: $(VENV)/bin/python constraints.txt
	$(PIP_ENV) $(VENV)/bin/python -m pip install -q scikit-build-core nanobind cmake ninja
	@touch $@

$(VENV)/installed: $(VENV)/build-tools $(NATIVE)
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/build-tools $(NATIVE)
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/installed

image-check: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest tests/test_containers.py
	$(VENV)/bin/python docker/check_images.py $(ARGS)

# What only `make test-slow`, `make golden` and `make fuzz` need: torch, transformers, Atheris, LangChain.
$(VENV)/installed-slow: $(VENV)/installed-dev
	$(INSTALL) -e '.[oracle,fuzz,examples]'
	@touch $@

# The commands of the README. Everything goes into the virtual environment .venv; nothing else on the machine changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORTRAITS ?= ../shared/faces/stills
CONSTRAINT := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: demo test test-vllm lint wheel models models-face bench clean

demo: $(VENV)/.demo  ## a clip with known micro-expressions, analysed, and a report
	$(BIN)/megc-stream demo --out demo $(if $(OPEN),--open)

# TRAIN=1 adds the tests of training; they need torch, which is large.
test: $(VENV)/.test $(if $(TRAIN),$(VENV)/.train)  ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

# The server gets an environment of its own. On a machine without a GPU, FIND_LINKS names a folder or page with the CPU build
# of torch, as its authors offer one.
FIND_LINKS ?= $(PIP_FIND_LINKS)
test-vllm: $(VENV)/.test .venv-vllm/.server  ## questions answered by a real vLLM server, and fine-tuning for it
	VLLM_BIN=$(CURDIR)/.venv-vllm/bin/vllm $(BIN)/python -m pytest -m vllm tests/vqa $(ARGS)

lint: $(VENV)/.lint  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/.lint  ## source distribution and wheel in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

models: $(VENV)/.train  ## train models/mean-synthetic.onnx anew from the portraits in $(PORTRAITS)
	$(BIN)/megc-stream train synthetic --portraits $(PORTRAITS) --out models/mean-synthetic.onnx --seed 0 --jobs 2

models-face: $(VENV)/.test  ## convert the two face models anew from the pinned mediapipe wheel
	$(BIN)/python models/convert_mediapipe.py

bench: $(VENV)/.test  ## alignment: jitter, gain, milliseconds a frame
	$(BIN)/python benchmarks/alignment.py

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e '.[demo]' --group test
	touch $@

$(VENV)/.train: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e '.[train]'
	touch $@

.venv-vllm/.server: $(wildcard tests/vqa/vllm_environment/*.txt)
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet uv
	.venv-vllm/bin/uv pip install --quiet --python .venv-vllm/bin/python --compile-bytecode \
		$(if $(FIND_LINKS),--find-links "$(FIND_LINKS)") --override tests/vqa/vllm_environment/overrides.txt \
		--constraint tests/vqa/vllm_environment/constraints.txt -r tests/vqa/vllm_environment/requirements.txt
	touch $@

$(VENV)/.lint: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(CONSTRAINT) -e . --group dev
	touch $@

clean:
	rm -rf $(VENV) .venv-vllm dist build demo megc-runs

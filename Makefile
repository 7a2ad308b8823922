# Every target sets up what it needs. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.installed ## a virtual environment with the tested versions (constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: setup ## train a hierarchical mixture of generators on real digits, evaluate it, draw samples
	$(BIN)/mixgan train

train: setup ## mixgan train with any overrides: make train ARGS="model=mog data=mnist"
	$(BIN)/mixgan train $(ARGS)

test: setup ## lint, and every test of minutes
	$(MAKE) lint
	$(BIN)/python -m pytest -m "not integ"

integ: setup ## long checks on real data: $MIXGAN_DATA and $MIXGAN_WEIGHTS say where they are
	$(BIN)/python -m pytest -m integ

lint: setup ## ruff's checks and format, and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## time and memory on the CPU: iterations, the mixture layer, K whole networks, K's price, the data's way
	$(BIN)/mixgan bench -m hardware=cpu model=gan,mggan,madgan,megan,mog,hmog data=cifar10 training.batch=64
	$(BIN)/python benchmarks/mixture.py
	$(BIN)/python benchmarks/whole_experts.py
	$(BIN)/python benchmarks/k_sweep.py
	$(BIN)/python benchmarks/data_path.py

bench-plain: setup ## beside a plain PyTorch loop, on the data in $$MIXGAN_DATA: ten minutes
	$(BIN)/python benchmarks/plain.py

bench-gpu: setup ## all that needs a GPU: eight minutes; $$MIXGAN_DATA and $$MIXGAN_WEIGHTS say where the data are
	$(BIN)/python benchmarks/gpu.py

bench-extractor: setup ## the Inception network's speed and what bf16 does to FID; $$MIXGAN_DATA, $$MIXGAN_WEIGHTS: ten minutes
	$(BIN)/python benchmarks/evaluation_speed.py

bench-evaluation: setup ## time and memory of FID and of the 5-NN test at 50,000 images: half an hour
	$(BIN)/python benchmarks/evaluation_memory.py

bench-safety: setup ## what reports, states and checks cost on Fashion-MNIST: three minutes
	$(BIN)/python benchmarks/safety_cost.py

faults: setup ## kill, interrupt and starve real runs, and see that nothing is lost (docs/reliability.md): ten minutes
	$(BIN)/python benchmarks/faults.py

calibrate: setup ## what real images score against real ones (docs/evaluation.md): an hour; needs the data and the weights
	$(BIN)/python benchmarks/calibrate.py $(ARGS)

results: setup ## Fashion-MNIST as in docs/results.md: about an hour of CPU
	$(BIN)/mixgan train experiment=fashion_mnist_cpu

clean: ## what was built; runs in outputs/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

.PHONY: help setup quickstart train test integ lint bench bench-plain bench-gpu bench-extractor bench-evaluation bench-safety faults calibrate results clean

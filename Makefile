# Every target sets up what it needs. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A process a core, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

help: ## this list
	@grep -hE '^[a-z0-9_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 32

setup: $(VENV)/.installed ## a virtual environment with the tested versions (constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: setup ## train a hierarchical mixture of generators on real digits, evaluate it, draw samples
	$(BIN)/mixgan train

train: setup ## mixgan train with any overrides: make train ARGS="model=mog data=mnist"
	$(BIN)/mixgan train $(ARGS)

browser: setup ## a Chromium for the tests of pages, where the machine has none
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium) >/dev/null && exit 0; fi; \
	$(BIN)/playwright install chromium || echo "no Chromium could be installed: the tests of pages in a browser will be skipped" >&2

test: setup browser ## lint, and the tests of every change: four minutes on two cores (docs/testing.md)
	$(MAKE) lint
	$(PYTEST) --dist worksteal -m "not integ" $(ARGS)

integ: setup ## long checks, some on real data: $MIXGAN_DATA and $MIXGAN_WEIGHTS say where they are
	$(PYTEST) --maxschedchunk 1 -m integ --durations=30 $(ARGS)

test-all: setup browser ## test and integ, ten times as many random configurations, and every combination of parts: hours
	$(MAKE) lint
	TEST_ALL=1 $(PYTEST) --maxschedchunk 1 --durations=30 $(ARGS)

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

configuration: setup ## docs/configuration.md anew, from conf/
	$(BIN)/python -m docs.collect

# ---- The papers' runs. SMOKE=1: minutes on a CPU, to see that all of it works; there is nothing to learn from it. ----
# Where a target's own set is hard to come by, its smoke run takes CIFAR-10 in its place.

ifdef SMOKE
OUTPUTS   := outputs/smoke
SHORT     := hardware=cpu training.nimg=320 training.epochs=null training.batch=32 training.report_nimg=160 \
  training.checkpoint_nimg=320 training.sample_nimg=320 training.evaluate_nimg=null training.figures=false evaluation=quick evaluation.download=false
ON_IMAGES := model.backbone.channels=8 evaluation.metrics=[ms_ssim,knn,mixture] evaluation.n_fake=64 evaluation.n_real=64
ON_POINTS := evaluation=points evaluation.n_fake=256 evaluation.n_real=256
CIFAR10   := data=cifar10 data.size=32
NO_CROP   := ~data.crop
random_split  = $(CIFAR10)
RING_SEEDS    := 0
THREE_SEEDS   := 0
AUTHORS_SEEDS := 2019
AUTHORS_K     := 4
SHOWN         := details=2
else
OUTPUTS       := outputs
random_split  = data=$(1) data.split_seed='$${seed}'
RING_SEEDS    := 0,1,2,3,4
THREE_SEEDS   := 0,1,2
AUTHORS_SEEDS := 2019,2020,2021,2022,2023
AUTHORS_K     := 4,8,16,32
SHOWN         := details=8
endif

# A run that fails costs neither the others nor the page; the target then fails at the end.
sweep  = $(BIN)/mixgan train -m sweep.name=$(1) paths.outputs=$(OUTPUTS)
report = $(BIN)/mixgan report $(OUTPUTS)/sweeps/$@ $(SHOWN) && exit $$failed

reproduce-mggan-ring: setup ## MGGAN's figure 2: eight Gaussians, five seeds
	$(call sweep,$@) experiment=mggan_ring seed=$(RING_SEEDS) $(SHORT) $(ON_POINTS) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-cifar10: setup ## MGGAN's table 1 on CIFAR-10: the code's beta and the text's, three seeds
	$(call sweep,$@) experiment=mggan_cifar10 model.beta=0.01,0.1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-stl10: setup ## MGGAN's table 1 on STL-10 at 48 pixels: the text's beta in both units, three seeds
	$(call sweep,$@) experiment=mggan_stl10 model.beta=0.1,1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(CIFAR10) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-imagenet32: setup ## MGGAN's table 1 on ImageNet at 32 pixels, one seed
	$(call sweep,$@) experiment=mggan_imagenet32 seed=0 $(SHORT) $(ON_IMAGES) $(CIFAR10) $(ARGS); failed=$$?; \
	$(report)

reproduce-megan-cifar10: setup ## MEGAN's Inception score on CIFAR-10, three seeds
	$(call sweep,$@) experiment=megan_cifar10 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-megan-celeba: setup ## MEGAN's MS-SSIM on CelebA, three seeds
	$(call sweep,$@) experiment=megan_celeba seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(CIFAR10) $(NO_CROP) $(ARGS); failed=$$?; \
	$(report)

# Five models, four numbers of experts, five seeds: the HMoG author's tables. A set without test images is split by the seed.
five  = hmog2019_madgan,hmog2019_mggan,hmog2019_megan,hmog2019_mog,hmog2019_hmog
grid  = $(call sweep,$@) experiment=$(five) $(1) model.k=$(AUTHORS_K) seed=$(AUTHORS_SEEDS) $(SHORT) $(ON_IMAGES)

reproduce-hmog-mnist: setup ## the HMoG author's table on MNIST: five models, four K, five seeds
	$(call grid,data=mnist) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-fashion_mnist: setup ## the same on Fashion-MNIST
	$(call grid,data=fashion_mnist) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-utzap50k: setup ## the same on UT Zappos50K
	$(call grid,$(call random_split,utzap50k)) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-flowers102: setup ## the same on Flowers-102
	$(call grid,$(call random_split,flowers102)) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-celeba: setup ## the same on CelebA
	$(call grid,$(call random_split,celeba)) $(ARGS); failed=$$?; \
	$(report)

reproduce-compare: setup ## every gate and head under one objective, one normalisation, equal parameters: on Fashion-MNIST, three seeds
	$(call sweep,$@-score) experiment=compare_none,compare_uniform,compare_softmax,compare_tree,compare_gumbel \
	  model/head=score seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(call sweep,$@-heads) experiment=compare_uniform,compare_softmax,compare_tree,compare_gumbel \
	  model/head=classifier,multiclass model.beta=0.1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS) || failed=$$?; \
	$(BIN)/mixgan report $(OUTPUTS)/sweeps/$@-score $(OUTPUTS)/sweeps/$@-heads to=$(OUTPUTS)/sweeps/$@ $(SHOWN) && exit $$failed

help-reproduce: ## what each of these costs
	@sed -n '/^| target |/,/^$$/p' docs/reproducing.md
	@echo 'Estimated for an H100, to a factor of two or three: docs/reproducing.md says how. SMOKE=1 tries each target on a CPU, in minutes.'

clean: ## what was built; runs in outputs/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

.PHONY: help setup quickstart train browser test integ test-all lint bench bench-plain bench-gpu bench-extractor bench-evaluation bench-safety faults calibrate results configuration reproduce-mggan-ring reproduce-mggan-cifar10 reproduce-mggan-stl10 reproduce-mggan-imagenet32 reproduce-megan-cifar10 reproduce-megan-celeba reproduce-hmog-mnist reproduce-hmog-fashion_mnist reproduce-hmog-utzap50k reproduce-hmog-flowers102 reproduce-hmog-celeba reproduce-compare help-reproduce clean

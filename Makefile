# Each target installs what it needs. `make` without a target lists all targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One process per core, up to 8, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

help: ## list the targets
	@grep -hE '^[a-z0-9_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 32

setup: $(VENV)/.installed ## create a virtual environment with the tested versions (constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: setup ## train a hierarchical mixture of generators on real digits, evaluate it and draw samples
	$(BIN)/mixgan train

train: setup ## run mixgan train with any overrides: make train ARGS="model=mog data=mnist"
	$(BIN)/mixgan train $(ARGS)

browser: setup ## install Chromium for the tests of pages, if it is missing
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium) >/dev/null && exit 0; fi; \
	$(BIN)/playwright install chromium || echo "no Chromium could be installed: the tests of pages in a browser will be skipped" >&2

test: setup browser ## run lint and the tests of every change (about eight minutes on two cores, docs/testing.md)
	$(MAKE) lint
	$(PYTEST) --dist worksteal -m "not integ" $(ARGS)

integ: setup ## run long tests, some on the real data in $MIXGAN_DATA and the weights in $MIXGAN_WEIGHTS
	$(PYTEST) --maxschedchunk 1 -m integ --durations=30 $(ARGS)

OLDEST := .venv-oldest

$(OLDEST)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	sed -E 's/^torch==.*/torch==2.11.0/; s/^torchvision==.*/torchvision==0.26.0/' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[dev]'
	@touch $@

test-oldest: $(OLDEST)/.installed ## run the tests of training, optimisers and devices with the oldest PyTorch that mixgan supports
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal \
	  -m "not integ and not slow" tests/training tests/optim tests/runtime/test_device.py tests/models/test_networks.py $(ARGS)

test-all: setup browser ## run test and integ with ten times as many random configurations and every combination of parts (hours)
	$(MAKE) lint
	TEST_ALL=1 $(PYTEST) --maxschedchunk 1 --durations=30 $(ARGS)

lint: setup ## check style and format with ruff, and types with mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## measure time and memory on the CPU: iterations, mixture layer, K whole networks, cost of K, data loading
	$(BIN)/mixgan bench -m hardware=cpu model=gan,mggan,madgan,megan,mog,hmog data=cifar10 training.batch=64
	$(BIN)/python benchmarks/mixture.py
	$(BIN)/python benchmarks/whole_experts.py
	$(BIN)/python benchmarks/k_sweep.py
	$(BIN)/python benchmarks/data_path.py

bench-plain: setup ## compare with a plain PyTorch loop on the data in $MIXGAN_DATA (ten minutes)
	$(BIN)/python benchmarks/plain.py

bench-gpu: setup ## run all GPU benchmarks on the data in $MIXGAN_DATA and the weights in $MIXGAN_WEIGHTS (eight minutes)
	$(BIN)/python benchmarks/gpu.py

bench-work: setup ## count the kernels, bytes and operations of an iteration of six presets on a GPU, without timing them
	$(BIN)/python benchmarks/work.py $(ARGS)

bench-extractor: setup ## measure the speed of Inception and the effect of bf16 on FID; needs $MIXGAN_DATA and $MIXGAN_WEIGHTS (ten minutes)
	$(BIN)/python benchmarks/evaluation_speed.py

bench-evaluation: setup ## measure time and memory of FID and the 5-NN test with 50,000 images (half an hour)
	$(BIN)/python benchmarks/evaluation_memory.py

bench-busy: setup ## measure training and Inception next to busy loops, for several waiting times of OpenMP (half an hour)
	$(BIN)/python benchmarks/busy_machine.py

bench-safety: setup ## measure the cost of reports, checkpoints and checks on Fashion-MNIST (three minutes)
	$(BIN)/python benchmarks/safety_cost.py

faults: setup ## inject faults into real runs and check that nothing is lost (ten minutes, docs/reliability.md)
	$(BIN)/python benchmarks/faults.py

calibrate: setup ## measure the metrics of real images against real images; needs the data and the weights (an hour, docs/evaluation.md)
	$(BIN)/python benchmarks/calibrate.py $(ARGS)

results: setup ## train HMoG on Fashion-MNIST as in docs/results.md (about an hour on a CPU)
	$(BIN)/mixgan train experiment=fashion_mnist_cpu

configuration: setup ## write docs/configuration.md from conf/
	$(BIN)/python -m docs.collect

theory: setup ## draw the figure of docs/theory.md
	$(BIN)/python -m docs.theory

# MEGAN has fewer experts, because each is a whole generator, and a load balance, without which its gate rarely chooses some of them.
PRETRAINED := gan mog hmog madgan mggan megan
BALANCED := model.k=4 training.nimg=320_000 objective/terms=balance 'objective.optimizer.gate=$${objective.optimizer.generator}'
models: $(PRETRAINED:%=model-%) ## train the six generators of model://…-fashion, export them into the package, draw the gallery (an hour on two cores)
	$(MAKE) gallery

model-%: setup
	$(BIN)/mixgan train paths.run=$(OUTPUTS)/models/$*-fashion $(ARGS) \
	  experiment=fashion_mnist_small model=$* $(if $(filter gan,$*),model.k=1) $(if $(filter megan,$*),$(BALANCED))
	$(BIN)/mixgan export run=$(OUTPUTS)/models/$*-fashion to=mixgan_cli/models/pretrained_weights/$*-fashion onnx=false dtype=float16 force=true
	rm mixgan_cli/models/pretrained_weights/$*-fashion/.mixgan
	cp $(OUTPUTS)/models/$*-fashion/config.yaml $(OUTPUTS)/models/$*-fashion/results.json mixgan_cli/models/pretrained_weights/$*-fashion

gallery: setup ## write docs/gallery.md, samples of the generators that come with mixgan
	$(BIN)/python -m docs.gallery

report-picture: setup browser ## draw docs/images/report.png, the page of the first run (two minutes)
	$(BIN)/mixgan train paths.run=outputs/report-picture
	$(BIN)/mixgan report outputs/report-picture
	$(BIN)/python -m docs.report_picture outputs/report-picture/report/index.html

# ---- The papers' runs. SMOKE=1 tries a target on a CPU in minutes; its values have no meaning. ----
# If the data set of a target is hard to obtain, its smoke run uses CIFAR-10 instead.

ifdef SMOKE
OUTPUTS   := outputs/smoke
SHORT     := hardware=cpu training.nimg=320 training.epochs=null training.batch=32 training.report_nimg=160 \
  training.checkpoint_nimg=320 training.sample_nimg=320 training.evaluate_nimg=null training.figures=false evaluation=quick evaluation.download=false
ON_IMAGES := model.backbone.channels=8 evaluation.metrics=[ms_ssim,knn,mixture] evaluation.n_fake=64 evaluation.n_real=64
ON_POINTS := evaluation=points evaluation.n_fake=256 evaluation.n_real=256
CIFAR10   := data=cifar10 data.size=32
ON_STACKS := evaluation.metrics=[ms_ssim,knn,mixture] evaluation.n_fake=64 evaluation.n_real=64
NO_CROP   := ~data.crop
random_split  = $(CIFAR10)
RING_SEEDS    := 0
THREE_SEEDS   := 0
AUTHORS_SEEDS := 2019
AUTHORS_K     := 4
COLLAPSE_SEEDS := 0
STUDY_SEEDS    := 0
PACKS         := 1,2
SHOWN         := details=2
else
OUTPUTS       := outputs
random_split  = data=$(1) data.split_seed='$${seed}'
RING_SEEDS    := 0,1,2,3,4
THREE_SEEDS   := 0,1,2
AUTHORS_SEEDS := 2019,2020,2021,2022,2023
AUTHORS_K     := 4,8,16,32
COLLAPSE_SEEDS := 0,1,2,3,4,5,6,7,8,9
STUDY_SEEDS    := 0,1,2,3,4
PACKS         := 1,2,3,4
SHOWN         := details=8
endif

# If a run fails, the others and the page are still made. The target then fails at the end.
sweep  = $(BIN)/mixgan train -m sweep.name=$(1) paths.outputs=$(OUTPUTS)
report = $(BIN)/mixgan report $(OUTPUTS)/sweeps/$@ $(SHOWN) && exit $$failed

reproduce-mggan-ring: setup ## reproduce MGGAN's figure 2: eight Gaussians, five seeds
	$(call sweep,$@) experiment=mggan_ring seed=$(RING_SEEDS) $(SHORT) $(ON_POINTS) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-cifar10: setup ## reproduce MGGAN's table 1 on CIFAR-10: beta of the code and of the text, three seeds
	$(call sweep,$@) experiment=mggan_cifar10 model.beta=0.01,0.1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-stl10: setup ## reproduce MGGAN's table 1 on STL-10 at 48 pixels: beta of the text in both units, three seeds
	$(call sweep,$@) experiment=mggan_stl10 model.beta=0.1,1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(CIFAR10) $(ARGS); failed=$$?; \
	$(report)

reproduce-mggan-imagenet32: setup ## reproduce MGGAN's table 1 on ImageNet at 32 pixels: one seed
	$(call sweep,$@) experiment=mggan_imagenet32 seed=0 $(SHORT) $(ON_IMAGES) $(CIFAR10) $(ARGS); failed=$$?; \
	$(report)

reproduce-megan-cifar10: setup ## reproduce MEGAN's Inception score on CIFAR-10: three seeds
	$(call sweep,$@) experiment=megan_cifar10 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-megan-celeba: setup ## reproduce MEGAN's MS-SSIM on CelebA: three seeds
	$(call sweep,$@) experiment=megan_celeba seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(CIFAR10) $(NO_CROP) $(ARGS); failed=$$?; \
	$(report)

# The HMoG author's tables: five models, four numbers of experts, five seeds. The seed splits a data set without test images.
five  = hmog2019_madgan,hmog2019_mggan,hmog2019_megan,hmog2019_mog,hmog2019_hmog
grid  = $(call sweep,$@) experiment=$(five) $(1) model.k=$(AUTHORS_K) seed=$(AUTHORS_SEEDS) $(SHORT) $(ON_IMAGES)

reproduce-hmog-mnist: setup ## reproduce the HMoG author's table on MNIST: five models, four K, five seeds
	$(call grid,data=mnist) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-fashion_mnist: setup ## reproduce the HMoG author's table on Fashion-MNIST
	$(call grid,data=fashion_mnist) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-utzap50k: setup ## reproduce the HMoG author's table on UT Zappos50K
	$(call grid,$(call random_split,utzap50k)) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-flowers102: setup ## reproduce the HMoG author's table on Flowers-102
	$(call grid,$(call random_split,flowers102)) $(ARGS); failed=$$?; \
	$(report)

reproduce-hmog-celeba: setup ## reproduce the HMoG author's table on CelebA
	$(call grid,$(call random_split,celeba)) $(ARGS); failed=$$?; \
	$(report)

reproduce-r3gan-cifar10: setup ## train R3GAN on CIFAR-10 without classes, and two mixtures in its networks: one seed
	$(call sweep,$@) experiment=r3gan_cifar10,r3gan_cifar10_hmog,r3gan_cifar10_mggan seed=0 $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-sngan-cifar10: setup ## reproduce SNGAN on CIFAR-10 in four recipes, and two mixtures in its networks: three seeds
	$(call sweep,$@) experiment=sngan_cifar10,sngan_cifar10_mimicry,sngan_cifar10_collections,sngan_cifar10_cnn,sngan_cifar10_collections_hmog,sngan_cifar10_collections_mggan \
	  seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(report)

reproduce-compare: setup ## compare all gates and heads on Fashion-MNIST with one objective, one normalisation and equal numbers of parameters: three seeds
	$(call sweep,$@-score) experiment=compare_none,compare_uniform,compare_softmax,compare_tree,compare_gumbel \
	  model/head=score seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS); failed=$$?; \
	$(call sweep,$@-heads) experiment=compare_uniform,compare_softmax,compare_tree,compare_gumbel \
	  model/head=classifier,multiclass model.beta=0.1 seed=$(THREE_SEEDS) $(SHORT) $(ON_IMAGES) $(ARGS) || failed=$$?; \
	$(BIN)/mixgan report $(OUTPUTS)/sweeps/$@-score $(OUTPUTS)/sweeps/$@-heads to=$(OUTPUTS)/sweeps/$@ $(SHOWN) && exit $$failed

# Mode collapse: all models and rivals in the same networks with the same objective, where a rival is not another objective. STEPS=20_000
# trains a twentieth of the ring's or grid's 400,000 steps, and a 25th of the 500,000 on Stacked MNIST.
, := ,
MIXTURES := madgan,mggan,megan,mog,hmog
ifdef STEPS
LENGTH := "training.nimg='$${product:$(STEPS),$${training.batch}}'"
endif
seeds = $(if $(findstring stacked,$@),$(THREE_SEEDS),$(COLLAPSE_SEEDS))
part = $(call sweep,$@-$(1)) seed=$(seeds) $(2) $(LENGTH) $(SHORT) $(3) $(ARGS) || failed=1;
page = $(BIN)/mixgan report $(foreach name,$(1),$(OUTPUTS)/sweeps/$@-$(name)) to=$(OUTPUTS)/sweeps/$@ 'baseline={sweep.name:$@-packs,model.pack:1}' $(SHOWN) && exit $$failed
plane = failed=0; \
	$(call part,packs,experiment=$(1) model.pack=$(PACKS),$(ON_POINTS)) \
	$(call part,mixtures,experiment=$(1) model=$(MIXTURES) model.k=8,$(ON_POINTS)) \
	$(call part,objectives,experiment=$(1) objective=r3gan$(,)feature_matching$(,)unrolled$(,)wgan_gp,$(ON_POINTS)) \
	$(call part,clipping,experiment=$(1) objective=wgan_clip objective/optimizer=wgan_gp,$(ON_POINTS)) \
	$(call part,minibatch,experiment=$(1) model/head=minibatch,$(ON_POINTS)) \
	$(call part,d2gan,experiment=$(1) model=d2gan model/experts=linear objective=d2gan,$(ON_POINTS)) \
	$(call part,dmgan,experiment=$(1) model=dmgan model.k=8 objective=dmgan,$(ON_POINTS)) \
	$(call part,own,experiment=ring data=$(2) model=$(MIXTURES) model.k=8 evaluation.n_fake=2_500 evaluation.n_real=2_500,$(ON_POINTS)) \
	$(call page,packs mixtures objectives clipping minibatch d2gan dmgan own)

reproduce-collapse: reproduce-collapse-ring reproduce-collapse-grid reproduce-collapse-stacked ## compare mixtures and rivals on all three tests of mode collapse

reproduce-collapse-ring: setup ## compare mixtures and rivals on PacGAN's ring of eight Gaussians: ten seeds
	$(call plane,pacgan_ring,ring_pacgan)

reproduce-collapse-grid: setup ## compare mixtures and rivals on PacGAN's grid of 25 Gaussians: ten seeds
	$(call plane,pacgan_grid,grid_pacgan)

reproduce-collapse-stacked: setup ## compare mixtures and rivals on Stacked MNIST with PacGAN's tiny discriminators: three seeds
	failed=0; \
	$(call part,packs,experiment=pacgan_stacked model.pack=1$(,)2,$(ON_STACKS)) \
	$(call part,equal,experiment=pacgan_stacked model.latent.size=2_060 model.pack=1$(,)2,$(ON_STACKS)) \
	$(call part,mixtures,experiment=pacgan_stacked model=madgan$(,)megan_hidden$(,)mog$(,)hmog model.k=8,$(ON_STACKS)) \
	$(call part,mggan,experiment=pacgan_stacked model=mggan model.k=10,$(ON_STACKS)) \
	$(call part,r3gan,experiment=pacgan_stacked objective=r3gan model.backbone.discriminator_norm=none,$(ON_STACKS)) \
	$(call part,dmgan,experiment=pacgan_stacked model=dmgan model.k=10 objective=dmgan model.backbone.discriminator_norm=none,$(ON_STACKS)) \
	$(call page,packs equal mixtures mggan r3gan dmgan)

# The study of docs/study.md. SIZE=full has the usual widths at 32 x 32 pixels, for a GPU. The sizes of the latents make the generators
# equally large; a single generator has 262 to be as large as eight experts, 65 as two, 1,055 as 32.
STUDY := $(OUTPUTS)/study$(if $(SIZE),-$(SIZE))
STUDY_DATA := mnist,fashion_mnist
ifeq ($(SIZE),full)
STUDY_SIZE := data.size=32 model.backbone.channels=64 training.batch=64 training.fakes=64 training.nimg=6_000_000 training.report_nimg=60_000 \
  training.sample_nimg=1_200_000 training.checkpoint_nimg=600_000 hardware=gpu
endif
study_part = $(BIN)/mixgan train -m sweep.name=study-$(1) paths.outputs=$(STUDY) experiment=study seed=$(STUDY_SEEDS) data=$(STUDY_DATA) $(2) \
  $(STUDY_SIZE) $(SHORT) $(ON_STACKS) $(ARGS) || failed=1;
study_gates = $(call study_part,$(1)-none,model=gan model.k=1 model.latent.size=32$(,)262 $(2)) \
	$(call study_part,$(1)-uniform,model=mggan model.gate.same_latents=false $(2)) \
	$(call study_part,$(1)-soft,model=mog$(,)hmog $(2)) \
	$(call study_part,$(1)-gumbel,model=megan_hidden model.latent.size=28 $(2))
study_heads = model/head=classifier$(,)multiclass model.beta=0.1

study: setup ## compare gates, heads, losses and K on small images, five seeds (docs/study.md; SIZE=full for a GPU)
	failed=0; \
	$(call study_gates,losses,objective=r1$(,)wgan_gp) \
	$(call study_gates,pairs,objective=r3gan objective.penalty.weight=0.1) \
	$(call study_part,heads-uniform,model=mggan model.gate.same_latents=false $(study_heads)) \
	$(call study_part,heads-soft,model=mog$(,)hmog $(study_heads)) \
	$(call study_part,heads-gumbel,model=megan_hidden model.latent.size=28 $(study_heads)) \
	$(call study_part,experts-uniform,model=mggan model.gate.same_latents=false model.k=2$(,)32) \
	$(call study_part,experts-tree,model=hmog model.k=2$(,)32) \
	$(call study_part,experts-none,model=gan model.k=1 model.latent.size=65$(,)1055) \
	$(BIN)/mixgan report $(STUDY) to=$(STUDY)/page $(SHOWN) && exit $$failed

study-tables: setup ## keep the results of `make study` in docs/records, and write the tables of docs/study.md
	$(BIN)/python -m docs.study $(STUDY)

help-reproduce: ## show the estimated cost of each reproduce target
	@sed -n '/^| target |/,/^$$/p' docs/reproducing.md
	@echo 'Estimated for an H100, to a factor of two or three: docs/reproducing.md explains how. SMOKE=1 tries each target on a CPU in minutes.'

clean: ## remove what was built, but not the runs in outputs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

.PHONY: help setup quickstart train browser test integ test-oldest test-all lint bench bench-plain bench-gpu bench-work bench-extractor bench-evaluation bench-busy bench-safety faults calibrate results configuration theory models gallery report-picture reproduce-mggan-ring reproduce-mggan-cifar10 reproduce-mggan-stl10 reproduce-mggan-imagenet32 reproduce-megan-cifar10 reproduce-megan-celeba reproduce-hmog-mnist reproduce-hmog-fashion_mnist reproduce-hmog-utzap50k reproduce-hmog-flowers102 reproduce-hmog-celeba reproduce-r3gan-cifar10 reproduce-sngan-cifar10 reproduce-collapse reproduce-collapse-ring reproduce-collapse-grid reproduce-collapse-stacked reproduce-compare study study-tables help-reproduce clean

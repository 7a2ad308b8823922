"""The tiny training runs that are recorded. Names of groups and keys are those of the recorded tree."""

from __future__ import annotations

ITERATIONS = 20
BATCH = 8

COMMON = (
    "hardware=cpu",
    "hardware.threads=1",  # one order of summation
    "evaluation=none",
    f"training.batch={BATCH}",
    "training.report_nimg=1",  # log every iteration
    "training.sample_nimg=100000",
    "training.evaluate_nimg=null",
    "training.figures=false",
    "logger=jsonl",
)
IMAGES = ("data=digits", "data.size=8", "model.backbone.channels=4")

FIVE_STEPS = ("gan", "megan", "mog", "hmog", "hmog_hinge", "megan_softmax")
"""Cases whose objective takes five discriminator steps for each generator step."""

RECIPES = {
    "gan": (),
    "mggan": ("model.k=4",),
    "madgan": ("model.k=4",),
    "madgan_sim": ("model.k=3",),
    "megan": ("model.k=3",),
    "megan_hidden": ("model.k=4",),
    "mog": ("model.k=4",),
    "hmog": ("model.k=4",),
}
"""The choices of conf/model, each trained in the recipe of its own paper."""

MIXED = {
    "hmog_hinge": (
        "model=hmog",
        "objective=hinge",
        "model/experts=dense",
        "model.k=4",
        "model.gate.dropout=0.25",
        "model.backbone.spectral_norm=true",
        "training.flips=true",
        "objective.optimizer.discriminator.weight_decay=0.1",
    ),
    "mog_classifier": (
        "model=mog",
        "objective=non_saturating",
        "model/head=classifier",
        "model.head.form=one_vs_all",
        "model.beta=0.1",
        "model.k=4",
        "model/experts=constant",
        "objective.classifier.stop_gradient=true",
        "objective.optimizer.gate={lr: 1.0e-3, betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.01}",
        "training.ema_half_life_nimg=0",
    ),
    "megan_softmax": (
        "model=megan",
        "model.k=3",
        "model/gate=softmax",
        "model/experts=heads",
        "objective.balance.counts=soft",
        "objective.penalty.norm=pixel",
        "training.ema_ramp_up=null",
    ),
    "mggan_pairwise": (
        "model=mggan",
        "objective=lsgan",
        "model.k=3",
        "model.head.form=pairwise",
        "model.beta=0.5",
        "objective/augment=diffaugment",
        "training.fakes=18",
        "training.shuffle=false",
    ),
    "madgan_minimax": (
        "model=madgan",
        "objective=minimax",
        "model.k=4",
        "model.beta=0.1",
        "model/gate=tree",
        "model/experts=linear",
        "objective.fake_weight=k",
        "training.flips=true",
        "seed=7",
    ),
}
"""Parts of several papers in one run."""

EVALUATED = {
    "ring": (
        "data=ring",
        "model=mggan",
        "model.k=4",
        "evaluation=points",
        "evaluation.n_fake=100",
        "evaluation.n_real=100",
    ),
    "evaluated": (
        "model=hmog",
        "model.k=4",
        "objective=lsgan",
        "evaluation=quick",
        "evaluation.metrics=[ms_ssim,knn,mixture,fid,prc]",
        "evaluation.extractors=[pixels]",
        "evaluation.n_fake=64",
        "evaluation.n_real=64",
        "evaluation.during={metrics: [knn, mixture], n_fake: 16, n_real: 16}",
        "training.evaluate_nimg=80",
    ),
}
"""Runs that are measured at the end, one of them on the way as well."""


def cases() -> dict[str, list[str]]:
    """Return the overrides of every run, by its name."""
    runs = {name: (f"model={name}", *words) for name, words in RECIPES.items()} | MIXED | EVALUATED
    return {name: [*_shared(name), *words] for name, words in runs.items()}


def _shared(name: str) -> list[str]:
    d_steps = 5 if name in FIVE_STEPS else 1
    return [*COMMON, *(IMAGES if name != "ring" else ()), f"training.nimg={ITERATIONS * BATCH * d_steps}"]

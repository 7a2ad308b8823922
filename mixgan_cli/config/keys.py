"""Names of keys: nested and flat, and the key that is meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mixgan_cli.errors import closest, nearest, normalized, suggestion

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    name: tuple(keys.split())
    for keys, names in {
        "lr": "learning_rate learningrate",
        "generator.lr": "lr_g g_lr lrg",
        "discriminator.lr": "lr_d d_lr lrd",
        "generator.betas discriminator.betas": "beta1 beta2",
        "training.batch": "batch_size batchsize bs minibatch",
        "training.epochs": "n_epochs num_epochs max_epochs",
        "training.nimg": "kimg length images",
        "training.ema_half_life_nimg": "ema_decay ema_beta ema_kimg",
        "training.checkpoint_nimg": "save_every save_interval save_freq checkpoint_every",
        "training.sample_nimg": "sample_every sample_interval sample_freq",
        "training.evaluate_nimg": "eval_every eval_interval eval_freq",
        "training.report_nimg": "log_every log_interval log_freq print_every",
        "model.k": "n_experts num_experts n_generators num_generators n_components",
        "model.latent.size": "z_dim zdim nz latent_dim latent_size dim_z noise_dim",
        "model.backbone.channels": "ngf ndf base_channels width",
        "model/gate": "gating router",
        "objective": "loss",
        "objective.penalty.weight": "gp gp_weight lambda_gp gp_lambda r1_gamma",
        "objective.d_steps": "n_critic critic_iters d_iters n_dis",
        "objective.optimizer.generator.weight_decay objective.optimizer.discriminator.weight_decay": "wd",
        "schedule": "scheduler lr_schedule lr_scheduler",
        "data": "dataset",
        "data.root": "data_dir data_path dataroot data_root dataset_path",
        "data.size": "image_size img_size imsize resolution",
        "hardware.devices": "gpus n_gpus num_gpus ngpus world_size",
        "hardware.device": "cuda use_cuda accelerator",
        "hardware.precision": "amp fp16 mixed_precision",
        "hardware.threads": "num_threads n_threads",
        "hardware.deterministic": "cudnn_deterministic",
        "paths.outputs to": "out outdir out_dir output output_dir outputs save_dir log_dir logdir result_dir",
        "paths.run": "run_dir",
        "start_from": "pretrained init_from finetune_from finetune load_from",
        "evaluation.metrics": "metric",
        "n evaluation.n_fake": "n_samples num_samples",
        "seed": "random_seed manual_seed rng_seed",
    }.items()
    for name in names.split()
}
"""Other tools' names of keys, each with the ends of the keys that are meant; a command has some of them."""
STEPS = "the length of a run is training.nimg, in real images shown: steps × training.batch × objective.d_steps"
ANSWERS: Mapping[str, str] = {
    **dict.fromkeys(("steps", "n_steps", "num_steps", "max_steps", "iterations", "iters", "max_iters"), STEPS),
    **dict.fromkeys(
        ("resume", "resume_from"),
        "the same command resumes an unfinished run (paths.run), and continue=RUN trains a finished one longer",
    ),
    **dict.fromkeys(
        ("run_name", "exp_name", "experiment_name", "exp", "tag"), "name=my_run names the run and its folder"
    ),
    **dict.fromkeys(("wandb", "use_wandb"), "choose it with logger=wandb"),
    **dict.fromkeys(("tensorboard", "tb"), "choose it with logger=tensorboard"),
    **dict.fromkeys(("gpu", "use_gpu"), "choose it with hardware=gpu, several with hardware.devices=2"),
    **dict.fromkeys(
        ("workers", "num_workers", "n_workers"),
        "data sets are in memory, without worker processes; hardware.data_on says where",
    ),
}
"""Other tools' keys for what mixgan does in another way, in commands that train."""


def flatten_keys(config: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration as one mapping from `a.b.c` to values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten_keys(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def prefixes(key: str) -> list[str]:
    """Return a key's groups and the key itself: a, a.b and a.b.c for a.b.c."""
    steps = key.split(".")
    return [".".join(steps[:length]) for length in range(1, len(steps) + 1)]


def meant(key: str, known: Iterable[str]) -> str:
    """Return a sentence with the key that is meant by `key`, which does not exist; an empty string if none is likely.

    A key is meant if it has the same last name, a last name that other tools call so, or a similar one.

    Args:
        key: a.b.c.
        known: the keys and groups of the command, at all levels.
    """
    known = [each for each in dict.fromkeys(known) if not each.endswith("_target_")]
    known.sort(key=lambda each: not each.startswith("training."))  # the batch that is meant is the one of training
    last = normalized(key.rpartition(".")[2])
    exact = _ending_in(last, known)
    if not exact and last in ANSWERS and "training.nimg" in known:
        return f" In mixgan, {ANSWERS[last]}."
    exact = exact or [found for end in SYNONYMS.get(last, ()) for found in _ending_in(end, known)]
    if 0 < len(exact) <= 3:
        return suggestion(_closest_first(key, exact))
    if exact:  # such as name or weight
        return nearest(key, exact)
    similar = closest(last, {each.rpartition(".")[2] for each in known}, cutoff=0.75)
    found = [each for name in similar for each in _ending_in(name, known)]
    return suggestion(_closest_first(key, found)[:3]) or nearest(key, known)


def _closest_first(key: str, known: Iterable[str]) -> list[str]:
    """Return keys with those first that begin like `key`, with its groups; otherwise in the same order."""
    groups = prefixes(key)[:-1]
    return sorted(known, key=lambda each: -len({*groups} & {*prefixes(each)}))


def _ending_in(name: str, known: Iterable[str]) -> list[str]:
    """Return the keys that are `name` or end in it; a group by that name, too, such as objective/optimizer."""
    return [each for each in known if each == name or each.endswith((f".{name}", f"/{name}"))]

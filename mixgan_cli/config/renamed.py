"""Keys and choices of the configuration that had another name, so that an old name gives "renamed to …"."""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "logger.sinks": "logger",
    "evaluation.during": "evaluation.interim",
    "model.gate.rate": "model.gate.schedule.rate",
    "model.gate.least": "model.gate.schedule.minimum",
    "model.gate.every": "model.gate.schedule.every",
    "objective.competition": "objective.terms.competition",
    "objective.balance.rate": "objective.terms.balance.schedule.rate",
    "objective.balance.least": "objective.terms.balance.schedule.minimum",
    "objective.balance.every": "objective.terms.balance.schedule.every",
    "objective.balance": "objective.terms.balance",
}
"""Old keys with their new names. Keys below them are renamed, too."""

CHOICES: Mapping[str, str] = {
    "model/backbone=same": "model/backbone=mggan",
} | {
    f"experiment=hmog2019_{model}_{data}": f"experiment=hmog2019_{model} data={data}{split}"
    for model in ("hmog", "mog", "madgan", "mggan", "megan")
    for data, split in {
        "mnist": "",
        "fashion_mnist": "",
        "utzap50k": " data.split_seed='${seed}'",
        "flowers102": " data.split_seed='${seed}'",
        "celeba": " data.split_seed='${seed}'",
    }.items()
}
"""Old choices, written GROUP=CHOICE, with the overrides that replace them."""


def renamed(name: str) -> str | None:
    """Return the new name of an old key (`a.b.c`) or choice (`group=choice`), or None if the name is not an old one."""
    if name in CHOICES:
        return CHOICES[name]
    head, tail = name, ""
    while head not in KEYS:
        head, dot, last = head.rpartition(".")
        if not dot:
            return None
        tail = f".{last}{tail}"
    return KEYS[head] + tail

"""The numbers of experts that a gate accepts.

The rules are here, without torch, so that the schema refuses a wrong `model.k` at once. The gates call the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mixgan_cli.errors import ConfigError


def one(k: int) -> None:
    """Accept a single expert. Raises ConfigError for others."""
    if k != 1:
        raise ConfigError(f"model.k={k}: without a gate there is one expert. Take model.k=1, or a model/gate")


def power_of_two(k: int) -> None:
    """Accept the leaves of a complete binary tree. Raises ConfigError unless K is a power of two."""
    if k < 1 or k & (k - 1):
        lower = 1 << max(k, 1).bit_length() - 1
        raise ConfigError(
            f"model.k={k}: a complete binary tree needs a power of two leaves. Take model.k={lower} or {2 * lower}"
        )


RULES: Mapping[str, Callable[[int], None]] = {"NoGate": one, "TreeGate": power_of_two}
"""The rules of mixgan's gates, by class. Other gates accept any number, or refuse it when they are built."""


def check_expert_count(gate: str, k: int) -> None:
    """Check `model.k` for a gate, named by its `_target_`.

    Raises:
        ConfigError: the gate is one of mixgan's and does not accept this number.
    """
    package, _, name = gate.rpartition(".")
    if f"{package}.".startswith("mixgan_cli.models.") and name in RULES:
        RULES[name](k)

"""One optimiser step over all ranks, skipped where it is not finite, and its statistics on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from mixgan_cli.optim.optimizers import Optimizers, step_unless
from mixgan_cli.runtime import distributed


class StepResult(NamedTuple):
    """What a step down came to: scalars on the device."""

    loss: Tensor
    """The sum of its terms, before the step."""
    skipped: Tensor
    """1 where the step was left out, else 0."""


def optimizer_step(terms: Iterable[Tensor], optimizers: Optimizers) -> StepResult:
    """Take a step down the sum of the terms, scalars, with each optimiser; only what they move gets a gradient.

    Terms are differentiated one by one as they come: where they are computed as they are asked for, memory holds the
    activations of one alone. With several ranks the gradient is the mean of theirs. A step whose loss or gradient is
    not finite is left out, the optimisers' own state untouched: whether it is finite is known on the device alone,
    and nothing waits for it.
    """
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    moved = [
        parameter
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    values = []
    for term in terms:
        term.backward(inputs=moved)
        values.append(term.detach())
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    loss = torch.stack(values).sum()
    distributed.average_([*gradients, loss])
    largest = torch.nn.utils.get_total_norm(gradients, norm_type=math.inf) if gradients else loss
    skipped = 1 - (largest.isfinite() & loss.isfinite()).to(torch.float32)
    for optimizer in optimizers.values():
        step_unless(optimizer, skipped)
    return StepResult(loss, skipped)


SKIPPED = "skipped"
"""Of the scalars, the one that is 1 where a step was left out, and else 0."""


class StepStats(NamedTuple):
    """What was found since the last reading."""

    means: dict[str, float]
    """Of each scalar over the steps in which it was finite; not a number where it never was."""
    skipped: int
    """Steps left out."""
    longest: int
    """The most of them in a row."""
    row: int
    """The last ones: 0 where all is well now."""


class Means:
    """The means of named scalars since they were last read, over all ranks, and how many steps were left out."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        """For each phase, known by its scalars' names, sums of the values and how many were finite: [2, names]."""
        self._rows: dict[str, Tensor] = {}
        """For each phase, steps left out: in all, in a row up to now, and the longest such row: [3]."""

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Take what a phase's step told, still on the device, where what was taken before keeps its place."""
        names, values = " ".join(scalars), torch.stack([value.detach() for value in scalars.values()]).double()
        if names not in self._sums:
            self._sums[names] = torch.zeros_like(values).repeat(2, 1)
            self._rows[names] = values.new_zeros(3)
        finite = values.isfinite()
        self._sums[names] += torch.stack((torch.where(finite, values, 0), finite.double()))
        skipped = scalars[SKIPPED].detach().double()
        total, row, longest = self._rows[names]
        row = (row + 1) * skipped
        self._rows[names].copy_(torch.stack((total + skipped, row, torch.maximum(longest, row))))

    def read(self) -> StepStats:
        """Return what was found, in one synchronisation with the device, and begin anew. All ranks must come here."""
        if not self._sums:
            return StepStats({}, 0, 0, 0)
        with distributed.synchronized():
            distributed.average_(list(self._sums.values()))
        numbers = iter(torch.cat([part.flatten() for part in (*self._sums.values(), *self._rows.values())]).tolist())
        means: dict[str, float] = {}
        for names in map(str.split, self._sums):
            sums, counts = list(islice(numbers, len(names))), list(islice(numbers, len(names)))
            if counts[names.index(SKIPPED)]:  # there was a step since
                means |= {
                    name: total / n if n else math.nan for name, total, n in zip(names, sums, counts, strict=True)
                }
        means.pop(SKIPPED, None)
        rows = [list(islice(numbers, 3)) for _ in self._rows]
        for part in self._sums.values():
            part.zero_()
        for part in self._rows.values():  # a row may go on
            part *= part.new_tensor([0, 1, 0])
        total, row, longest = zip(*rows, strict=True)
        return StepStats(means, int(sum(total)), int(max(longest)), int(max(row)))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that was taken, [2, names] and [3] for each phase: for a checkpoint between two readings."""
        return {"sums": self._sums, "rows": self._rows}

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> None:
        """Take over what `state` gave, [2, names] and [3] for each phase."""
        self._sums, self._rows = (
            {names: values.to(device) for names, values in state[part].items()} for part in ("sums", "rows")
        )

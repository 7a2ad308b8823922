"""One optimiser step over all ranks, skipped if it is not finite, and running statistics on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from mixgan_cli.optim.optimizers import Optimizers, step_unless
from mixgan_cli.runtime import distributed
from mixgan_cli.training.bf16_weights import Bf16Weights


class StepResult(NamedTuple):
    """What an optimiser step returns: scalars on the device."""

    loss: Tensor
    """The sum of its terms, before the step."""
    skipped: Tensor
    """1 if the step was skipped, else 0."""


def optimizer_step(
    terms: Iterable[Tensor], optimizers: Optimizers, bf16_weights: Bf16Weights | None = None
) -> StepResult:
    """Minimise the sum of the terms, scalars, by one step of each optimiser. Only their parameters get gradients.

    Terms are differentiated one by one as they are yielded, so a generator of terms keeps the activations of one term
    in memory at a time. With several ranks, the gradient is the mean over ranks. A step with a non-finite loss or a
    gradient whose norm is not finite changes neither parameters nor the optimisers' state. Only the device knows
    whether it is finite, and nothing waits for it. Gradients of `bf16_weights` count as those of the parameters.
    """
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    parameters = [
        parameter
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    copies = bf16_weights.copies_of(parameters) if bf16_weights else []
    for copy in copies:  # a capture that failed between its terms leaves some
        copy.grad = None
    values = []
    for term in terms:
        term.backward(inputs=[*parameters, *copies])
        values.append(term.detach())
    if bf16_weights:
        bf16_weights.move_gradients(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    loss = values[0] if len(values) == 1 else torch.stack(values).sum()
    distributed.average_([*gradients, loss])
    # The 2-norm also finds gradients whose squares overflow in Adam, and is 80 times as fast on a CPU as the maximum.
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else loss
    both = norm + loss  # a finite norm is too small to make the sum overflow
    skipped = (both - both).ne_(0).to(torch.float32)  # 1 if not finite
    for optimizer in optimizers.values():
        step_unless(optimizer, skipped)
    return StepResult(loss, skipped)


SKIPPED = "skipped"
"""Name of the scalar that is 1 if a step was skipped, else 0."""


class StepStats(NamedTuple):
    """Statistics of the steps since the last reading."""

    means: dict[str, float]
    """The mean of each scalar over the steps in which it was finite; NaN if it never was."""
    skipped: int
    """Number of skipped steps."""
    longest: int
    """The largest number of steps of one phase that were skipped in a row."""
    current: int
    """The number of steps skipped in a row up to now; 0 if the last step was taken."""


class Means:
    """Means of named scalars over steps and ranks since the last reading, and the number of skipped steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        """For each phase, identified by its scalars' names: sums of the finite values and their number, [2, names]."""
        self._runs: dict[str, Tensor] = {}
        """For each phase, the number of steps skipped in a row up to now, and the most in a row, [2]."""

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add the scalars of a phase's step, in place and on the device, so that it can be part of a CUDA graph."""
        names, values = " ".join(scalars), torch.stack([value.detach() for value in scalars.values()])
        if names not in self._sums:
            self._sums[names] = values.new_zeros((2, len(values)), dtype=torch.float64)
            self._runs[names] = values.new_zeros(2, dtype=torch.float64)
        sums, counts = self._sums[names]
        sums += values.nan_to_num(0, 0, 0)
        counts += values - values == 0  # finite, as `values.isfinite()` finds with more kernels
        skipped, (current, longest) = scalars[SKIPPED].detach(), self._runs[names]
        torch.addcmul(skipped, skipped, current, out=current)  # skipped · (1 + current)
        torch.maximum(longest, current, out=longest)

    def read(self) -> StepStats:
        """Return the statistics and reset them, with one synchronisation with the device. All ranks must call it."""
        if not self._sums:
            return StepStats({}, 0, 0, 0)
        with distributed.synchronized():
            distributed.average_(list(self._sums.values()))
        numbers = iter(torch.cat([part.flatten() for part in (*self._sums.values(), *self._runs.values())]).tolist())
        means: dict[str, float] = {}
        skipped = 0.0
        for names in map(str.split, self._sums):
            sums, counts = list(islice(numbers, len(names))), list(islice(numbers, len(names)))
            skipped += sums[names.index(SKIPPED)]
            if counts[names.index(SKIPPED)]:  # this phase took a step since the last reading
                means |= {
                    name: total / n if n else math.nan for name, total, n in zip(names, sums, counts, strict=True)
                }
        means.pop(SKIPPED, None)
        runs = [list(islice(numbers, 2)) for _ in self._runs]
        for part in self._sums.values():
            part.zero_()
        for part in self._runs.values():  # the next step may be skipped, too
            part *= part.new_tensor([1, 0])
        current, longest = zip(*runs, strict=True)
        return StepStats(means, round(skipped), int(max(longest)), int(max(current)))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the statistics since the last reading, for a checkpoint: [2, names] and [2] for each phase."""
        return {"sums": self._sums, "runs": self._runs}

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> None:
        """Load what `state` returned, [2, names] and [2] for each phase; older states have three numbers for each."""
        self._sums = {names: values.to(device) for names, values in state["sums"].items()}
        self._runs = {names: values[-2:].to(device) for names, values in state["runs"].items()}

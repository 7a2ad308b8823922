"""Adam whose second decay rate can follow a schedule, also in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from mixgan_cli.config import components
from mixgan_cli.optim.schedules import Schedule

Decay = Annotated[float, Field(ge=0, lt=1)]


class Adam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1) with 1 - β2 on the device, where a schedule can scale it.

    The bias corrections use the current β2 and the number of all steps, as in the code of R3GAN (Huang et al. 2024),
    which sets β2 of torch's Adam. The fused kernels of torch read β2 on the host, so a CUDA graph would keep the first
    one. Without a schedule, torch.optim.Adam computes the same in one kernel.

    Args:
        params: the parameters.
        lr: learning rate.
        betas: β1 and β2, the decay rates of the means of gradients and squared gradients.
        eps: added to the root of the second moment.
        beta2_schedule: component of the schedule by which 1 - β2 is multiplied, given a schedule by `build_optimizer`.
    """

    schedule_of_beta2: Schedule | None = None

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: PositiveFloat = 1e-8,
        beta2_schedule: components.Schedule | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta1": betas[0], "eps": eps})
        for group in self.param_groups:
            group["base_complement"] = 1 - betas[1]
            group["complement"] = torch.full((), 1 - betas[1], device=group["params"][0].device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step. Nothing waits for the device."""
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if parameters:
                self._step(group, parameters, gradients)

    def _step(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        states = [self._state_of(parameter, group["beta1"] > 0) for parameter in parameters]
        steps, squares = ([state[name] for state in states] for name in ("step", "exp_avg_sq"))
        beta1, complement = group["beta1"], group["complement"]
        torch._foreach_add_(steps, 1)
        means = gradients
        if beta1:
            means = [state["exp_avg"] for state in states]
            torch._foreach_lerp_(means, gradients, 1 - beta1)
        new_squares = torch._foreach_mul(gradients, gradients)
        torch._foreach_mul_(new_squares, complement)
        torch._foreach_mul_(squares, 1 - complement)
        torch._foreach_add_(squares, new_squares)
        corrections = torch._foreach_mul(steps, (1 - complement).log())  # 1 - β2^step, accurate for β2 near 1
        torch._foreach_expm1_(corrections)
        torch._foreach_neg_(corrections)
        roots = torch._foreach_div(squares, corrections)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        changes = torch._foreach_div(means, roots)
        if beta1:
            torch._foreach_div_(changes, [1 - beta1**step for step in steps])
        torch._foreach_mul_(changes, group["lr"])
        torch._foreach_sub_(parameters, list(changes))

    def _state_of(self, parameter: Tensor, with_mean: bool) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            if with_mean:
                state["exp_avg"] = torch.zeros_like(parameter)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state. The numbers of steps are moved to their parameters' device; torch would leave them."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            state["step"] = state["step"].to(parameter.device)

    def scale_beta2(self, factor: Tensor) -> None:
        """Set 1 - β2 to `factor` (a scalar on the device) times its configured value."""
        for group in self.param_groups:
            group["complement"].copy_(group["base_complement"] * factor)

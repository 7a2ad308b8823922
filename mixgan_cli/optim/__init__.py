"""Optimisers and schedules.

Configurations name schedules as `mixgan_cli.optim.Cosine` and optimisers as `torch.optim.AdamW`.
"""

from mixgan_cli.optim.schedules import Constant, Cosine, Exponential, Linear, Schedule

__all__ = ["Constant", "Cosine", "Exponential", "Linear", "Schedule"]

"""Optimisers and schedules.

Configurations name schedules as `mixgan_cli.optim.Cosine` and optimisers as `torch.optim.AdamW`.
"""

from mixgan_cli.optim.adam import Adam
from mixgan_cli.optim.schedules import BurnIn, Constant, Cosine, Exponential, Linear, Schedule

__all__ = ["Adam", "BurnIn", "Constant", "Cosine", "Exponential", "Linear", "Schedule"]

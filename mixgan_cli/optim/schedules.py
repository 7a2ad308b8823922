"""Values that change while a run trains, as functions of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math


class Exponential:
    """max(least, start · exp(-rate t)), t refreshed every so many steps: MEGAN's temperature and balance weight."""

    def __init__(self, start: float, rate: float, least: float, every: int) -> None:
        self.start, self.rate, self.least, self.every = start, rate, least, every

    def at(self, step: int) -> float:
        """Return the value after so many steps."""
        refreshed = step - step % self.every
        return max(self.least, self.start * math.exp(-self.rate * refreshed))

"""Schedules: factors by which a value is multiplied as a run goes on.

A schedule is a function of the images shown so far (MEGAN's: of the generator steps taken), so there is nothing to save
and a resumed run continues exactly. It scales what its component is about: an optimiser's learning rate, the weight of
a penalty or term, the strength of an augmentation, a gate's temperature, the half-life of the moving average.
A new schedule is a subclass of `Schedule` with `shape`, and a YAML file in conf/schedule/.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from mixgan_cli.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class Schedule(ABC):
    """A factor over the course of a run: a warm-up from 0, times the schedule's own shape.

    Args:
        warmup: number of images over which the factor first grows linearly from 0; 0 for none.
    """

    constant = False
    """True if the factor is 1 throughout, so that nothing needs to be multiplied."""
    depends_on_length = False
    """True if the factor depends on the length of the run, so that a longer run differs from its first step on."""

    def __init__(self, warmup: NonNegativeInt = 0) -> None:
        self.warmup = warmup

    def factor(self, nimg: int, step: int) -> float:
        """Return the factor after `nimg` images and `step` iterations."""
        ramp = min(1.0, nimg / self.warmup) if self.warmup else 1.0
        return ramp * self.shape(nimg, step)

    @abstractmethod
    def shape(self, nimg: int, step: int) -> float:
        """Return the factor after `nimg` images and `step` iterations, apart from the warm-up."""


class Constant(Schedule):
    """1 throughout, after the warm-up if there is one."""

    def __init__(self, warmup: NonNegativeInt = 0) -> None:
        super().__init__(warmup)
        self.constant = not warmup

    def shape(self, nimg: int, step: int) -> float:
        """Return 1."""
        return 1.0


class _Decay(Schedule):
    """From 1 at image `begin` to `final` at image `end`, constant before and after.

    Args:
        nimg: length of the run in images, given by the program.
        final: the last factor.
        begin: images shown before the decay begins.
        end: images shown when it ends; None for the end of the run.
        warmup: see `Schedule`.

    Raises:
        ConfigError: the decay ends before it begins.
    """

    def __init__(
        self,
        nimg: int,
        final: NonNegativeFloat = 0.0,
        begin: NonNegativeInt = 0,
        end: PositiveInt | None = None,
        warmup: NonNegativeInt = 0,
    ) -> None:
        super().__init__(warmup)
        self.final, self.begin, self.end = final, begin, nimg if end is None else end
        self.depends_on_length = end is None
        if self.begin >= self.end:
            raise ConfigError(f"schedule.begin={begin}: must be less than the end of the decay, {self.end} images")

    def progress(self, nimg: int) -> float:
        """Return how much of the decay has passed, from 0 to 1."""
        return min(max((nimg - self.begin) / (self.end - self.begin), 0.0), 1.0)


class Linear(_Decay):
    """Linear decay (DCGAN-style training, Karras et al. 2018)."""

    def shape(self, nimg: int, step: int) -> float:
        """Return 1 - (1 - final) · progress."""
        return 1 - (1 - self.final) * self.progress(nimg)


class Cosine(_Decay):
    """Cosine decay without restarts (Loshchilov & Hutter 2017, eq. 5)."""

    initial = 1.0

    def shape(self, nimg: int, step: int) -> float:
        """Return final + (initial - final) (1 + cos(π · progress)) / 2."""
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * self.progress(nimg))) / 2


class BurnIn(Cosine):
    """From `initial` to `final` along half a cosine, then constant: all schedules of R3GAN (Huang et al. 2024).

    v(n) = v_1 + (v_0 - v_1) (1 + cos(π n / T)) / 2 up to T images, v_1 after them.

    Args:
        nimg: length of the run in images, given by the program.
        initial: the first factor, v_0.
        final: the last factor, v_1.
        begin: images shown before the change begins.
        end: images shown when it ends, T; None for the end of the run.
        warmup: see `Schedule`.
    """

    def __init__(
        self,
        nimg: int,
        initial: NonNegativeFloat = 0.0,
        final: NonNegativeFloat = 1.0,
        begin: NonNegativeInt = 0,
        end: PositiveInt | None = None,
        warmup: NonNegativeInt = 0,
    ) -> None:
        super().__init__(nimg, final, begin, end, warmup)
        self.initial = initial


class Exponential(Schedule):
    """max(minimum, exp(-rate · t)), t in images or in generator steps, updated every `every` of them.

    With steps, this is the schedule of MEGAN's temperature and balance weight (Park et al. 2018, its code).

    Args:
        rate: decay per unit of t.
        minimum: the lowest factor.
        every: units of t between two updates.
        unit: what t counts: images shown, or iterations (generator steps).
        warmup: see `Schedule`.
    """

    def __init__(
        self,
        rate: NonNegativeFloat,
        minimum: Share = 0.0,
        every: PositiveInt = 1,
        unit: Literal["images", "steps"] = "images",
        warmup: NonNegativeInt = 0,
    ) -> None:
        super().__init__(warmup)
        self.rate, self.minimum, self.every, self.unit = rate, minimum, every, unit
        self.constant = not rate and not warmup

    def shape(self, nimg: int, step: int) -> float:
        """Return the factor at the last update."""
        t = nimg if self.unit == "images" else step
        return max(self.minimum, math.exp(-self.rate * (t - t % self.every)))

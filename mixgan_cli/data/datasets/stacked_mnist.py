"""Stacked MNIST: colour images of three random digits, a test of mode collapse with 1,000 known modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mixgan_cli.config.values import PathText
from mixgan_cli.data.batches import Batches, to_device
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.datasets.mnist import MNIST
from mixgan_cli.data.datasets.toy2d import FixedBatches
from mixgan_cli.data.images import Side, to_float
from mixgan_cli.data.packed import checksum
from mixgan_cli.runtime.random import fork_seed, integers

Digits = Literal["train", "all"]


class StackedMNIST(MNIST):
    """Images whose three channels are three random digits of MNIST (Metz et al. 2016; Lin et al. 2018).

    A mode is a triple of digits, so there are 1,000. MNIST has not equally many of each digit, and neither have the
    modes: their divergence from equal ones is 0.0043 nats.

    Args:
        root: a copy of MNIST; None: searched as for `data=mnist`.
        size: pixels a side.
        n: number of images in a fixed training set, the same in every run; None: new ones at each step.
        digits: "train", the 60,000 digits of the training set; "all", also the 10,000 of the test set, as in PacGAN's
            code. Evaluation stacks digits of the test set in either case.
    """

    def __init__(
        self,
        root: PathText | None,
        size: Side,
        n: Annotated[int, Field(ge=1, le=2**24)] | None = None,
        digits: Digits = "train",
    ) -> None:
        super().__init__(root, size, labels=True)
        self.n, self.digits = n, digits
        self.shape = (3, size, size)

    def load(self) -> StackedDigits:  # type: ignore[override]
        """Return the stacked images; download MNIST if there is no copy. Raises DataError as MNIST does."""
        digits = super().load()
        if self.n is None:
            return StackedDigits(digits, self.digits)
        with fork_seed("stacks"):
            n_digits = len(digits.train) + (len(digits.held_out) if self.digits == "all" else 0)
            return StackedDigits(digits, self.digits, integers(0, n_digits, self.n, 3))


@dataclass(frozen=True)
class StackedDigits:
    """Stacks of three digits to train on: a fixed set, or new ones at each step. Evaluation draws new ones.

    Args:
        single: the digits, [N, 1, H, W] with labels.
        stacked: which of them are stacked for training.
        rows_N3: the digits of each image of a fixed set; None: drawn at each step.
    """

    single: ImageDataset
    stacked: Digits
    rows_N3: Tensor | None = None

    def batches(self, seed: int | None, device: torch.device, place: str = "auto") -> Batches:
        """Return the training batches. The digits are whole on the device (at most 72 MB at 32 pixels)."""
        digits = self.single.train.images_NCHW
        if self.stacked == "all":
            digits = torch.cat((digits, self.single.held_out.images_NCHW))
        rows = None if self.rows_N3 is None else FixedBatches(self.rows_N3, seed, device)
        return StackedBatches(to_device(digits[:, 0], device), rows)

    def reals(self, n: int, seed: int, split: Literal["held_out", "train"] = "held_out") -> Tensor:
        """Return n new stacks of a split's digits, uint8 [n, 3, H, W]."""
        packed = self.single.held_out if split == "held_out" else self.single.train
        with fork_seed("reals", seed):
            rows_N3 = torch.randint(0, len(packed), (n, 3))
        return packed.images_NCHW[:, 0][rows_N3]

    def describe(self) -> dict[str, Any]:
        """Return what a protocol records: the digits of both splits, and the stacks of a fixed training set."""
        train: dict[str, Any] = {"digits": self.stacked, "checksum": self.single.train.checksum}
        if self.rows_N3 is not None:
            train |= {"n": len(self.rows_N3), "stacks": checksum(self.rows_N3)}
        return {
            "train": {**train, "preprocessing": f"three random digits, {self.single.train.preprocessing}"},
            "held_out": {"digits": "test", "checksum": self.single.held_out.checksum},
        }


class StackedBatches:
    """Batches of stacked digits.

    Args:
        digits_MHW: uint8 [M, H, W], on the device.
        rows: the digits of each image of a fixed set, in batches; None: drawn at each step with torch's current random
            state.
    """

    def __init__(self, digits_MHW: Tensor, rows: FixedBatches | None) -> None:
        self.digits_MHW, self.rows = digits_MHW, rows

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, 3, H, W] in [-1, 1]."""
        if self.rows is None:
            rows_B3 = integers(0, len(self.digits_MHW), batch, 3, device=self.digits_MHW.device)
        else:
            rows_B3 = self.rows.get_batch(nimg, batch)
        return to_float(self.digits_MHW[rows_B3])

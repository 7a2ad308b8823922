"""Loggers: metrics.jsonl is the record of a run, every other logger mirrors it."""

from mixgan_cli.tracking.tensorboard import TensorBoardLogger
from mixgan_cli.tracking.tracker import Logger, RunInfo
from mixgan_cli.tracking.wandb import WandbLogger

__all__ = [
    "Logger",
    "RunInfo",
    "TensorBoardLogger",
    "WandbLogger",
]

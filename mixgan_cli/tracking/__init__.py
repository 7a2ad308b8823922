"""Loggers: metrics.jsonl is the record of a run, every other logger mirrors it."""

from mixgan_cli.tracking.tracker import RunInfo, Sink
from mixgan_cli.tracking.wandb import WandbSink

__all__ = [
    "RunInfo",
    "Sink",
    "WandbSink",
]

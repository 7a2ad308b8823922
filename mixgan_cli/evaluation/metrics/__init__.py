"""Metrics, one file each. A metric of your own is a subclass of `Metric`, in any package that can be imported."""

from mixgan_cli.evaluation.metrics.base import Metric, Requirement, ResultKey

__all__ = ["Metric", "Requirement", "ResultKey"]

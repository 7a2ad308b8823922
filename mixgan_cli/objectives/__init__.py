"""Objectives: pure functions of what the networks answer. They know no loop and no network by name."""

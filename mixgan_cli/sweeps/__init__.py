"""Sweeps: plan the jobs of a command line, record their results, and share GPUs and threads. Imports no torch."""

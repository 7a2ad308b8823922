"""Evaluation: metrics of samples against a reference set, each stored with its protocol."""

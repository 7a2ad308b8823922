"""Data sets, by how they are stored."""

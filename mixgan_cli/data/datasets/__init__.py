"""The data sets: one file per set or file format."""

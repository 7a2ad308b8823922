"""Record what the program computes, and compare two versions of it: see README.md in this folder."""

"""The machine underneath: devices, processes, random numbers, signals and files."""

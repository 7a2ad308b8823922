"""Pictures, tables and pages of runs and sweeps. It reads run folders and the package's own data, and nothing else."""

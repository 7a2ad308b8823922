"""Pictures and pages. The report over runs and sweeps will live here; it reads run folders and nothing else."""

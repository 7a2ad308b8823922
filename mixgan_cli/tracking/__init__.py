"""What a run tells while it runs: metrics.jsonl is the truth, everything else a mirror."""

"""Training: THE loop, and what it needs."""

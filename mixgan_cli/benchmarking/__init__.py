"""What an iteration costs, and what the machine could do."""

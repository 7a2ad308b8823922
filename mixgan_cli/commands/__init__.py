"""One file a command, each a page that reads like a recipe: `run(config)` returns what goes to stdout as JSON."""

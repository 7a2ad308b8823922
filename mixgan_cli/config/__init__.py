"""What a run is made of: the schema, its components, and how Hydra composes them."""

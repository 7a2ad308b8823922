"""Where samples come from. A source says what shape its samples have, and loads them."""

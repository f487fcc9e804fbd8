"""Pictures as inputs: what `[input.NAME.image]` in a `model.toml` makes of a JPEG or PNG file."""

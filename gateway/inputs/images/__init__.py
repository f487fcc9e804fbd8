"""Makes inputs out of JPEG and PNG files, as `[input.NAME.image]` in a `model.toml` says."""

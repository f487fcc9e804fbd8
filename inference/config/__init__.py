"""The configuration of a model: `model.toml`, its tables, the files that it may name, and what is wrong with it."""

"""What an operator may say of a model: `model.toml`, where the files lie that it names, and what is wrong with it."""

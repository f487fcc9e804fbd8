"""Models of text: how texts become the token ids that a model takes, and its outputs embeddings."""

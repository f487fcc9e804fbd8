"""Models that embed texts: makes token ids out of texts, and embeddings out of a model's outputs."""

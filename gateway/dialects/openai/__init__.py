"""OpenAI's API for embeddings."""

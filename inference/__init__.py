"""Words, errors, tensors, the model repository, and worker processes that run models. Imports nothing above it."""

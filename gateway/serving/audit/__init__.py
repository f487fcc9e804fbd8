"""Looking again while serving: whether rows that were answered in batches come out the same alone."""

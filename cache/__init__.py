"""The cache of rows: keys, the memory tier, the tier in Redis, and single-flight."""

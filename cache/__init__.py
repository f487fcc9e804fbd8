"""Where answers to repeated rows will live: row keys, the memory tier, the Redis tier, single-flight."""

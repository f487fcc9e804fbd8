"""The smallest model of one's own: y = 2x - 1."""

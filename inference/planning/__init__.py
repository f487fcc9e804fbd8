"""Plans how a version is served on this machine: how it is measured when it loads, and what follows from that."""

"""The settings of a gateway: which there are, and where their values come from."""

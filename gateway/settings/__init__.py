"""The settings of a gateway: their sections, and where their values come from."""

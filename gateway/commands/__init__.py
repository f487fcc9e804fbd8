"""What the commands do beside serving, and what they print."""

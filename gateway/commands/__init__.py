"""What the commands other than `sluice serve` do, and what all of them print."""

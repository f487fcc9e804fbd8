"""Models to try Sluice with, and the scripts that made them."""

"""What Sluice costs, always beside a reference measured in the same run."""

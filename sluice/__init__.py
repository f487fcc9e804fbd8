"""The command's own front door, under the one name that nothing else on a Python path has."""

"""The model repository: which versions there are, the files of each, and whether they are still the same."""

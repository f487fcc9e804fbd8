"""The model repository on disk: which models and versions it has, the files of each, and whether they have changed."""

"""Running models: the model repository, worker processes and the engines in them. Imports none of the other packages.

`types`, `errors`, `signature`, `findings` and `serving_plan` are the values that all other packages share.
"""

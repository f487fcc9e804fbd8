"""Tries whether a model keeps the rows of a batch apart: the rows, the comparison of answers, and the decision."""

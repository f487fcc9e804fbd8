"""Whether a model keeps the rows of a batch apart: the rows it is tried with, what they show, and the decision."""

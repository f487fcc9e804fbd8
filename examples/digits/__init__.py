"""A classifier of handwritten digits, trained with scikit-learn."""

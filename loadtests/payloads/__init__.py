"""Rows of real data for the load tests, and how they are made."""

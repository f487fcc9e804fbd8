"""Audits rows while serving: whether rows that were answered in a batch get the same answer when they run alone."""

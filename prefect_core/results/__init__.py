"""Stored results: what is kept of a run's value, where, and for whom."""

"""Evaluation: correlations, their intervals, tables and the store of results."""

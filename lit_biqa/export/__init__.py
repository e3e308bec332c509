"""Scorers as programs of other runtimes."""

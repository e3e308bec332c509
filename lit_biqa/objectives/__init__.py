"""Objectives: pure functions from tensors to a loss, an advantage or a probability."""

"""Objectives: pure functions, tensors in, tensors out."""

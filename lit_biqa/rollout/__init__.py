"""Rollouts: sampled completions and their log-probabilities."""

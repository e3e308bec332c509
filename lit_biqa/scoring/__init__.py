"""RALI's head, and the scorer file."""

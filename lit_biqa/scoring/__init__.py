"""RALI's head and the portable scorer."""

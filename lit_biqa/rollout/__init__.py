"""What a model writes, many times over, and how probable it was."""

"""Texts: prompts for language models, and parsers for their completions."""

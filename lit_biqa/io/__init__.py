"""Files: written whole, read within limits, with digests inside."""

"""Data: the catalogue of public data sets, their splits, and what turns them into batches."""

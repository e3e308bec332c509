"""Data: the catalogue of public data sets, their splits, and the DataModule that batches them."""

"""Readers of label files, one small file per data set, with the facts of the set."""

"""One small file per data set: its facts, and how its authors' label file is read."""

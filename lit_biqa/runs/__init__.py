"""Run folders: settings, checkpoints, the lock of a fit, signals; recipes by name."""

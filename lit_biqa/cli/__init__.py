"""The command line: configuration files, their checks, errors in one line."""

"""Access to the internals of libraries, one module for each library."""

"""Memory of a fit, planned from sizes and settings: no weight is read and no device is needed."""

"""A configuration as objects, and its training."""

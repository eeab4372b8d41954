"""Lists of labelled files."""

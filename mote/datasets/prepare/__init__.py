"""Published label files into lists of ours."""

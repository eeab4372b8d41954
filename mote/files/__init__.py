"""What is on disk, whatever it is about."""

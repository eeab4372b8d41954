"""Frame features on disk."""

"""Videos and faces that are made."""

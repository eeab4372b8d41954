"""Own videos in any number: named, cut into timelines, encoded, searched."""

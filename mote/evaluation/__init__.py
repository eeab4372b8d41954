"""Evaluation: scores of a list of clips, what they count to, and the files that say so."""

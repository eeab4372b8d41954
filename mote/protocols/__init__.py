"""Evaluations with a name and a version."""

"""Smoothness and stability of a solution, as pure functions."""

"""Smoothness and stability of a trained network, measured; nothing here is needed to train."""

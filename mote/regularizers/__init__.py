"""Regularisers: pure functions, tensors in, scalar out."""

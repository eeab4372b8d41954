"""Structured sparsity: groups of weights that live or die together, the proximal rule, physical removal."""

"""Training: one loop over any task, on one or many processes; the only importer of accelerate."""

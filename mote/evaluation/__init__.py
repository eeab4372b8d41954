"""A model on a list: scores, accuracies and result files."""

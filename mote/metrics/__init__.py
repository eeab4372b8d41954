"""Pure numbers: accuracies, intervals, tests, comparisons."""

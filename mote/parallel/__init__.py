"""Processes, cores and number formats of the machine."""

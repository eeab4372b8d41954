"""The demonstrations of `mote demo`."""

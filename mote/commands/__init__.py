"""The verbs of the command line, one file each: `add(verbs)` declares it, the rest runs it.

Nothing heavy is imported before a verb runs, so `mote --help` answers at once.
"""

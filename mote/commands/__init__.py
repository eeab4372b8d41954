"""The verbs of the command line, one file each: `add(verbs)` declares a verb, `_run(arguments)` does its work.

Nothing heavy is imported before a verb runs, so `mote --help` answers at once.
"""

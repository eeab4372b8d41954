"""`python -m mote` is the `mote` command."""

from mote.cli import main

if __name__ == "__main__":
    main()

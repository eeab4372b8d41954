"""Long videos made of the clips of a list, with a list of their segments, to measure timelines on known answers.

    python tools/join_clips.py LABELS.csv --split test --out runs/long --size 320x240 --fps 15
    mote eval runs/a evaluation.manifest=runs/long/segments.csv --window 2s --every 0.5s

Clips are laid end to end in an order that the seed decides; neighbours of one class are one segment.
"""

import argparse
import re
from pathlib import Path

from mote.datasets.lists.reading import Listing
from mote.datasets.synthetic.joined import join_clips


def main() -> None:
    """Read the list, join its clips, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", help="list of clips, as for evaluation.manifest")
    parser.add_argument("--root", help="where its relative paths start (default: its folder)")
    parser.add_argument("--split", help="value of its column `split` to keep (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos and segments.csv")
    parser.add_argument("--per-video", type=int, default=10, help="clips of a video (default: %(default)s)")
    parser.add_argument("--size", default="320x240", help="WIDTHxHEIGHT in pixels (default: %(default)s)")
    parser.add_argument("--fps", type=int, default=15, help="frames a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default: %(default)s)")
    arguments = parser.parse_args()
    size = re.fullmatch(r"(\d+)x(\d+)", arguments.size)
    if size is None:
        parser.error(f"--size {arguments.size}: expected WIDTHxHEIGHT, such as 320x240")
    listing = Listing(arguments.list, arguments.root, arguments.split)
    names = listing.names()
    clips = [(Path(record.path), names[record.label]) for record in listing.records(names)]
    how = {"per_video": arguments.per_video, "fps": arguments.fps, "seed": arguments.seed}
    print(join_clips(clips, arguments.out, size=(int(size[1]), int(size[2])), **how))


if __name__ == "__main__":
    main()

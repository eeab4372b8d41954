"""Carve a validation part out of the training images of an .npz, so that settings are not chosen on its test images.

    uv run python tools/hold_out_images.py mnist.npz mnist_validation.npz

The new file has the arrays of `mote.datasets.images`: its "test" images are a random part of the training images of the
old one (drawn with seed 0), its "train" images the others; the old test images are in neither.
"""

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help=".npz with train_images and train_labels")
    parser.add_argument("out", type=Path, help="new .npz")
    parser.add_argument("--count", type=int, default=10_000, help="images held out (default: %(default)s)")
    arguments = parser.parse_args()
    with np.load(arguments.source, allow_pickle=False) as file:
        images, labels = file["train_images"], file["train_labels"]
    if not 0 < arguments.count < len(labels):
        parser.error(f"--count {arguments.count}: expected 1 to {len(labels) - 1}, there are {len(labels)} images")
    order = np.random.default_rng(0).permutation(len(labels))
    held, kept = np.sort(order[: arguments.count]), np.sort(order[arguments.count :])
    np.savez_compressed(
        arguments.out,
        train_images=images[kept],
        train_labels=labels[kept],
        test_images=images[held],
        test_labels=labels[held],
    )
    print(f"{arguments.out}: {len(kept)} training images, {len(held)} held out")


if __name__ == "__main__":
    main()

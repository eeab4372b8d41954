import csv
from collections import Counter

import numpy as np
import pytest

from mote.datasets.decoding.decode import read_frames
from mote.datasets.lists.manifest import read_manifest
from mote.datasets.synthetic.faces import COUNTS, EXPRESSIONS, make_faces, render_face


def face(seed: int, expression: str, **options) -> np.ndarray:
    return render_face(np.random.default_rng(seed), expression, **options).astype(float)


def test_counts_are_long_tailed_and_the_test_part_has_enough_of_each():
    assert all(list(row) == sorted(row, reverse=True) and len(row) == len(EXPRESSIONS) for row in COUNTS.values())
    assert COUNTS["train"][0] / COUNTS["train"][-1] == 20 and min(COUNTS["test"]) >= 20


def test_an_expression_comes_up_over_the_clip_and_neutral_does_not():
    """Movement from the first to the last frame, with place and background of the neutral clip of the same draws."""

    def change(expression: str) -> float:
        clips = [face(seed, expression, strength=1.0) - face(seed, expression, strength=0.0) for seed in range(8)]
        return float(np.mean([np.abs(clip[-1]).mean() - np.abs(clip[0]).mean() for clip in clips]))

    assert change("neutral") == pytest.approx(0, abs=0.6)  # the face's own small variation alone
    assert all(change(name) > 1.0 for name in EXPRESSIONS if name not in ("neutral", "surprise"))


def test_surprise_fades_and_fear_stays():
    def courses(expression: str) -> np.ndarray:
        change = [np.abs(face(s, expression, strength=1.0) - face(s, expression, strength=0.0)) for s in range(8)]
        return np.mean([clip.mean(axis=(1, 2, 3)) for clip in change], axis=0)

    surprise, fear = courses("surprise"), courses("fear")
    assert surprise[-1] < 0.6 * surprise.max() and fear[-1] > 0.8 * fear.max()


def test_an_unknown_expression_is_refused():
    with pytest.raises(ValueError, match="'boredom' is unknown; expected one of happiness"):
        render_face(np.random.default_rng(0), "boredom")


def test_the_world_is_real_files_that_a_second_call_reuses(tmp_path):
    counts = {"train": (3, 2, 2, 1, 1, 1, 1), "test": (1,) * 7}
    files = make_faces(tmp_path, counts=counts, num_frames=6, workers=0)
    records = {part: read_manifest(files.manifest, None, EXPRESSIONS, part) for part in counts}
    assert [Counter(r.label for r in records["train"])[k] for k in range(7)] == list(counts["train"])
    assert len(records["test"]) == 7 and read_frames(records["test"][0].path, [0, 5]).shape == (2, 64, 64, 3)
    with files.classes.open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(EXPRESSIONS)
    before = records["train"][0].path.stat().st_mtime_ns
    make_faces(tmp_path, counts=counts, num_frames=6, workers=0)
    assert records["train"][0].path.stat().st_mtime_ns == before

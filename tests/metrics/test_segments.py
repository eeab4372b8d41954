"""Segment mAP and F1 against a plain loop over detections, and cases whose answer is seen."""

import numpy as np
import pytest

from mote.metrics.segments import THRESHOLDS, Detection, Listed, overlap, segment_report


def tiou(a, b):
    both = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    return both / (max(a.end, b.end) - min(a.start, b.start)) if both else 0.0


def plain(listed, detections, threshold):
    """(mAP, F1): every detection by falling score takes the free listed segment that it overlaps most."""
    aps, true_all = [], 0
    for name in sorted({s.label for s in listed} | {d.label for d in detections}):
        free = [s for s in listed if s.label == name]
        total, true, points = len(free), 0, []
        for rank, found in enumerate(sorted((d for d in detections if d.label == name), key=lambda d: -d.score), 1):
            near = [s for s in free if s.video == found.video and tiou(found, s) >= threshold]
            if near:
                free.remove(max(near, key=lambda s: tiou(found, s)))
                true += 1
            points.append((true, true / rank))
        true_all += true
        if total:  # the mean over the listed segments of the highest precision at which each is found
            aps.append(sum(max((p for n, p in points if n >= hit), default=0) for hit in range(1, true + 1)) / total)
    return np.mean(aps), 2 * true_all / (len(listed) + len(detections))


def made(rng, videos=4):
    def segment(kind, *more):
        start = rng.uniform(0, 20)
        return kind(int(rng.integers(videos)), start, start + rng.uniform(0.5, 8), str(rng.choice(list("abc"))), *more)

    listed = [segment(Listed) for _ in range(rng.integers(1, 15))]
    found = [segment(Detection, float(rng.random())) for _ in range(rng.integers(0, 20))]
    near = [
        Detection(s.video, s.start + rng.normal(), s.end + 1 + rng.normal(), s.label, float(rng.random()))
        for s in listed
        if s.end - s.start > 4
    ]
    return listed, [d for d in found + near if d.start < d.end]


@pytest.mark.parametrize("seed", range(40))
def test_report_equals_the_plain_loop(seed):
    listed, detections = made(np.random.default_rng(seed))
    report = segment_report(listed, detections, 4, resamples=20)
    assert report["tiou"] == [0.3, 0.4, 0.5, 0.6, 0.7]
    expected = [plain(listed, detections, threshold) for threshold in THRESHOLDS]
    assert report["map"] == pytest.approx([m for m, _ in expected], abs=1e-12)
    assert report["f1"] == pytest.approx([f for _, f in expected], abs=1e-12)
    assert report["map_mean"] == pytest.approx(np.mean([m for m, _ in expected]))


def test_cases_made_by_hand():
    listed = [Listed(0, 0, 10, "a"), Listed(0, 20, 30, "a"), Listed(1, 0, 10, "b")]

    def found(*detections):
        report = segment_report(listed, list(detections), 2, thresholds=(0.5,), resamples=10)
        return report["map"][0], report["f1"][0]

    assert found() == (0, 0)
    perfect = [Detection(*segment, 0.9) for segment in listed]
    assert found(*perfect) == (1, 1)
    assert found(*perfect[:2]) == (0.5, 0.8)  # b is not found
    twice = Detection(0, 0, 9, "a", 0.95)  # takes the place of the better one with the lower score
    assert found(twice, *perfect) == (pytest.approx((1 + 2 / 3) / 2 / 2 + 0.5), pytest.approx(6 / 7))
    elsewhere = Detection(1, 0, 10, "a", 1.0)  # right class and time, other video
    assert found(elsewhere, *perfect) == (pytest.approx((2 / 3 + 2 / 3) / 2 / 2 + 0.5), pytest.approx(6 / 7))
    unlisted = Detection(1, 0, 10, "c", 1.0)  # counts in F1 only
    assert found(unlisted, *perfect) == (1, pytest.approx(6 / 7))
    assert found(Detection(0, 0, 5, "a", 1))[0] == 0.25  # tIoU of exactly the threshold


def test_overlap():
    others = np.array([[0.0, 10], [5, 15], [10, 20], [2, 4]])
    assert overlap(np.array([0.0, 10]), others).tolist() == pytest.approx([1, 1 / 3, 0, 0.2])


def test_intervals_are_those_of_videos_drawn_again():
    rng = np.random.default_rng(5)
    listed, detections = made(rng, videos=6)
    report = segment_report(listed, detections, 6, resamples=400, seed=1)
    draws, values = np.random.default_rng(1), []
    for counts in draws.multinomial(6, np.full(6, 1 / 6), 400):
        copies = [(old, new) for new, old in enumerate(np.repeat(np.arange(6), counts))]
        there = [s._replace(video=new) for old, new in copies for s in listed if s.video == old]
        found = [(d, new) for old, new in copies for d in detections if d.video == old]
        if there:
            values.append([plain(there, [d._replace(video=new) for d, new in found], t) for t in THRESHOLDS])
    for place, key in enumerate(("map", "f1")):
        again = np.array(values)[..., place]
        for name, value, spread in (
            (key, report[key], again.std(axis=0)),
            (f"{key}_mean", report[f"{key}_mean"], again.mean(axis=1).std()),
        ):
            low, high = np.array(report[f"{name}_interval"]).T
            assert low == pytest.approx(np.clip(value - 1.96 * spread, 0, 1))
            assert high == pytest.approx(np.clip(value + 1.96 * spread, 0, 1))


def test_an_interval_holds_its_value_also_where_classes_have_few_segments():
    """40 classes of 3 segments each, most of them found: classes that a draw leaves out would move its quantiles."""
    rng = np.random.default_rng(2)
    listed = [Listed(int(rng.integers(12)), 10.0 * i, 10.0 * i + 5, f"class {i % 40}") for i in range(120)]
    wrong = [Detection(int(rng.integers(12)), 10.0 * i, 10.0 * i + 5, f"class {i % 40}", 0.9) for i in range(200)]
    right = [Detection(*segment, rng.random()) for segment in listed[::2]]
    report = segment_report(listed, [*right, *wrong], 12)
    for key in ("map", "f1"):
        low, high = np.array(report[f"{key}_interval"]).T
        assert (low < report[key]).all() and (report[key] < high).all()
        assert report[f"{key}_mean_interval"][0] < report[f"{key}_mean"] < report[f"{key}_mean_interval"][1]


def test_one_video_has_no_interval_and_what_cannot_be_scored_is_said():
    report = segment_report([Listed(0, 0, 1, "a")], [], 1)
    assert report["map_interval"] is None and report["f1_mean_interval"] is None
    assert report["classes"] == [{"class": "a", "listed": 1, "detections": 0, "ap": [0.0] * 5}]
    with pytest.raises(ValueError, match="no segment is listed"):
        segment_report([], [Detection(0, 0, 1, "a", 1)], 1)
    with pytest.raises(ValueError, match="a start before its end"):
        segment_report([Listed(0, 1, 1, "a")], [], 1)
    with pytest.raises(ValueError, match=r"a video in 0\.\.0"):
        segment_report([Listed(1, 0, 1, "a")], [], 1)

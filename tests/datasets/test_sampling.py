import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import sampling_reference as oracle

from mote.datasets.sampling import clip_indices, dense_indices, segment_indices, to_keyframes

LENGTHS = range(1, 1001)


@pytest.mark.parametrize("num_samples", [1, 3, 8, 16])
def test_first_of_each_segment(num_samples):
    for length in LENGTHS:
        indices = segment_indices(length, num_samples)
        assert indices.dtype == np.int64
        assert indices.tolist() == [first for first, _ in oracle.segment(length, num_samples)]


@pytest.mark.parametrize("num_samples", [1, 3, 8, 16])
def test_random_frames_lie_in_their_segments(num_samples):
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        bounds = oracle.segment(length, num_samples)
        indices = segment_indices(length, num_samples, rng)
        assert all(first <= index <= last for index, (first, last) in zip(indices, bounds, strict=True))
        assert indices[-1] < length


def test_every_frame_can_be_drawn_and_equally_often():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([segment_indices(30, 8, rng) for _ in range(4000)]), minlength=30)
    expected = np.concatenate(
        [np.full(last - first + 1, 4000 / (last - first + 1)) for first, last in oracle.segment(30, 8)]
    )
    assert abs(counts / expected - 1).max() < 0.15


def test_the_same_draw_gives_the_same_frames():
    first, again, other = (segment_indices(300, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("num_clips", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("num_samples", [1, 8])
def test_clips(num_samples, num_clips):
    for length in LENGTHS:
        indices = clip_indices(length, num_samples, num_clips)
        assert indices.tolist() == oracle.clips(length, num_samples, num_clips)
        assert indices.min() >= 0
        assert indices.max() < length


def test_one_clip_is_the_first_frame_of_each_segment():
    for length in LENGTHS:
        assert clip_indices(length, 8, 1)[0].tolist() == segment_indices(length, 8).tolist()


def test_clips_of_a_video_shorter_than_a_clip_are_in_order():
    assert clip_indices(5, 8, 3).tolist() == [[0, 0, 1, 1, 2, 3, 3, 4]] * 3  # the reference wraps to the last frame
    assert clip_indices(5, 8, 3, wrap=True).tolist() == [[0, 0, 1, 1, 2, 3, 3, 4], *[[4, 0, 0, 0, 1, 2, 2, 3]] * 2]
    assert clip_indices(1, 8, 4).tolist() == clip_indices(1, 8, 4, wrap=True).tolist() == [[0] * 8] * 4


@given(st.integers(1, 400), st.integers(1, 32), st.integers(1, 16), st.integers(1, 6), st.none() | st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_dense(length, num_samples, stride, num_clips, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    indices = dense_indices(length, num_samples, stride, num_clips, rng)
    assert indices.shape == (num_clips, num_samples)
    last_start = max(0, length - 1 - (num_samples - 1) * stride)
    for row in indices:
        assert 0 <= row[0] <= last_start
        assert row.tolist() == oracle.dense(length, int(row[0]), num_samples, stride)
    if rng is None and num_clips > 1:
        assert (indices[0, 0], indices[-1, 0]) == (0, last_start)
        assert np.ptp(np.diff(indices[:, 0])) <= 1
    if rng is None and num_clips == 1:
        assert abs(last_start - 2 * indices[0, 0]) <= 1


def test_dense_starts_vary_over_the_whole_video():
    starts = dense_indices(20, 4, 4, num_clips=500, rng=np.random.default_rng(0))[:, 0]
    assert set(starts) == set(range(8))


@pytest.mark.parametrize(
    "call", [lambda n: segment_indices(n, 8), lambda n: clip_indices(8, n, 1), lambda n: clip_indices(8, 8, n)]
)
@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_refused(call, count):
    with pytest.raises(ValueError, match=f"must be at least 1, got {count}"):
        call(count)
    with pytest.raises(ValueError, match=f"stride must be at least 1, got {count}"):
        dense_indices(8, 8, count)
    with pytest.raises(ValueError, match=f"num_frames must be at least 1, got {count}"):
        dense_indices(count, 8, 4)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=9),
    st.sets(st.integers(0, 300), max_size=12),
    st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_the_nearest_key_frame_within_reach(indices, keys, reach):
    keyframes = sorted(keys)
    expected = []
    for index in indices:
        near = [key for key in keyframes if abs(key - index) <= reach]
        expected.append(min(near, key=lambda key: (abs(key - index), key)) if near else index)
    assert to_keyframes(np.array(indices), keyframes, reach).tolist() == expected

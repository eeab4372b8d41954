import pytest
from toy_run import Clips, run

from mote.parallel.accelerator import make_accelerator
from mote.training.checkpoint import Progress
from mote.training.unreadable import TooManySkippedError, Unreadable


def test_undecodable_clips_are_counted_named_and_limited(tmp_path):
    clips = Clips(8, broken=(2, 5, 7))
    records = run(tmp_path / "run", clips=clips, epochs=2, max_skipped=3)[2]
    for epoch in (0, 1):
        skipped = [index for r in records if r["epoch"] == epoch for index in r.get("skipped", [])]
        assert sorted(skipped) == [2, 5, 7]
    listed = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert sorted(listed) == [f"/v/{index}.mp4\tcut off" for index in (2, 5, 7)]
    with pytest.raises(TooManySkippedError, match="3 undecodable clips, more than the 2"):
        run(tmp_path / "strict", clips=clips, max_skipped=2)


def test_causes_are_listed_once_and_known_again_after_a_resume(tmp_path):
    accelerator, progress = make_accelerator(cpu=True), Progress(10)
    skipped = [(3, "/v/a\tb.mp4\tcut off"), (5, "/v/\udcff.mp4\tempty"), (7, "")]  # a tab, not UTF-8, no cause
    for _ in range(2):
        Unreadable.of(accelerator, tmp_path, None).note(skipped, progress, batch_size=4)
    assert (tmp_path / "unreadable.txt").read_bytes() == b"/v/a\tb.mp4\tcut off\n/v/\xff.mp4\tempty\n"
    assert Unreadable.of(accelerator, tmp_path, None).causes == {"/v/a\tb.mp4": "cut off", "/v/\udcff.mp4": "empty"}
    assert progress.skipped == 6


def test_a_step_of_which_no_file_is_there_is_an_error_whatever_the_limit(tmp_path):
    unreadable = Unreadable.of(make_accelerator(cpu=True), tmp_path, None)
    gone = [(i, f"/v/{i}.mp4\tthere is no such file") for i in range(2)]
    unreadable.note(gone, Progress(10), batch_size=3)
    unreadable.note(gone[:1], Progress(10), batch_size=1)  # one clip a step says nothing of a disk
    with pytest.raises(TooManySkippedError, match="step 5: none of its 2 files is there") as caught:
        unreadable.note(gone, Progress(10, step=4), batch_size=2)
    assert caught.value.skipped == tuple(gone)

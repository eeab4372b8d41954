"""Lists of segments, and what is said of those that cannot be used."""

import pytest

from mote.datasets.lists.manifest import ManifestError
from mote.datasets.lists.segments import read_segments

NAMES = ["walking", "jumping"]


def written(tmp_path, *lines):
    file = tmp_path / "list.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_videos_and_segments_in_their_order(tmp_path):
    lines = [
        "Path,start,end,LABEL,note",
        "b.mp4,1,2.5,jumping,x",
        "a.mp4,0,1e1,0,",
        "b.mp4,2,3, walking ,",
        "c.mp4,,,,",
    ]
    found = read_segments(written(tmp_path, *lines), NAMES)
    assert found.videos == [tmp_path / "b.mp4", tmp_path / "a.mp4", tmp_path / "c.mp4"]
    assert found.segments == [(0, 1.0, 2.5, "jumping"), (1, 0.0, 10.0, "walking"), (0, 2.0, 3.0, "walking")]
    assert read_segments(tmp_path / "list.csv", NAMES, "/root").videos[0].as_posix() == "/root/b.mp4"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,label", "a,0"], "list.csv:1: expected a header with columns path, start, end, label"),
        (["path,start,end,label"], "it lists no segment"),
        (["path,start,end,label", "a,1,1,0"], "list.csv:2: expected seconds with 0 <= start < end"),
        (["path,start,end,label", "a,-1,1,0"], "list.csv:2: expected seconds"),
        (["path,start,end,label", "a,x,1,0"], "list.csv:2: expected seconds"),
        (["path,start,end,label", "a,0,nan,0"], "list.csv:2: expected seconds"),
        (["path,start,end,label", "a,0,,walking"], "list.csv:2: expected seconds"),
        (["path,start,end,label", "a,0,1,2"], "list.csv:2: label '2' is not a known class name"),
        (["path,start,end,label", "a,0,1,running"], "list.csv:2: label 'running' is not a known class name"),
        (["path,start,end,label", "a,0,1"], "list.csv:2: expected 4 cells"),
        (["path,start,end,label", "a,,,", "a,0,1,walking"], "list.csv:2: says that nothing is in a video"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, lines, message):
    with pytest.raises(ManifestError) as error:
        read_segments(written(tmp_path, *lines), NAMES)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_lists_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text("a 0\n")
    with pytest.raises(ManifestError, match=r"expected a \.csv file"):
        read_segments(tmp_path / "list.txt", NAMES)

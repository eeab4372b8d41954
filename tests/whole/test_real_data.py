"""`mote predict` on real files: each gives scores or one clear line, nothing hangs or crashes."""

import json

import pytest

from mote.cli import main


def predict(tmp_path, *places) -> tuple[int, list[dict]]:
    with pytest.raises(SystemExit) as stop:
        main(
            ["predict", "tiny", *map(str, places), "--labels", "red ball,blue star", "--json", str(tmp_path / "p.json")]
        )
    assert isinstance(stop.value.code, int)
    return stop.value.code, json.loads((tmp_path / "p.json").read_text())["videos"]


def test_clips_with_odd_names(real_data, tmp_path):
    code, videos = predict(tmp_path, real_data / "hmdb51_5clips")
    assert code == 0 and len(videos) == 5
    assert all(abs(sum(video["scores"].values()) - 1) < 1e-6 for video in videos)


def test_videos_that_break_decoders(real_data, tmp_path, capsys):
    code, videos = predict(tmp_path, *sorted((real_data / "odd_videos").iterdir()))
    failed = [video for video in videos if "error" in video]
    assert code == 1 and [video["path"].rsplit("/", 1)[1] for video in failed] == ["decord_corrupted.mp4"]
    assert len(videos) == len(list((real_data / "odd_videos").iterdir()))
    err = capsys.readouterr().err
    assert "decord_corrupted.mp4: cannot be decoded by" in err and "Traceback" not in err

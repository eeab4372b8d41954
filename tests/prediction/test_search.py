"""`mote search`: hits for a text, printed, in tables and on a page; another model is refused."""

import csv
import json
import shutil

import numpy as np
import pytest
from command_line import fails, mote
from made_videos import write_videos

from mote.datasets.lists.manifest import Record
from mote.inference.loading import load_video
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.prediction.encode import source_of
from mote.prediction.nearest import Hit
from mote.prediction.search import frame_of

QUERY = "red star"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(videos, folder of their features, the model): one video is damaged, the last equals the first."""
    folder = tmp_path_factory.mktemp("search")
    videos = write_videos(folder, 5, damaged=[2])
    videos[4].write_bytes(videos[0].read_bytes())
    assert mote("encode", "tiny", *videos, "--out", folder / "out", "--workers", "0") == 1
    return videos, folder / "out", load_video("tiny")


def test_scores_are_the_products_with_the_sentence_as_it_is_best_first(made, tmp_path, capsys):
    videos, out, model = made
    files = [tmp_path / name for name in ("hits.csv", "hits.json", "hits.html")]
    options = [part for pair in zip(("--csv", "--json", "--page"), files, strict=True) for part in pair]
    assert mote("search", out, QUERY, "blue", "--top", "3", *options) == 0
    (text,) = encode_classes(model.towers(), [QUERY], ["{}"]).numpy()
    scores = {}
    for video in (0, 1, 3, 4):
        frames = model.clips_of([Record(videos[video], 0)]).frames(0, 0)
        scores[str(videos[video])] = float(model.embed(model.encode(frames[None]))[0].numpy() @ text)
    expected = sorted(scores, key=lambda path: -scores[path])[:3]
    if str(videos[4]) in expected and str(videos[0]) in expected:
        assert expected.index(str(videos[0])) < expected.index(str(videos[4]))  # a tie, in the order of inputs
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == QUERY and [line.split()[1] for line in lines[1:4]] == expected
    with files[0].open(newline="") as file:
        table = [row for row in csv.DictReader(file) if row["query"] == QUERY]
    assert [row["path"] for row in table] == expected and [row["rank"] for row in table] == ["1", "2", "3"]
    np.testing.assert_allclose([float(row["score"]) for row in table], [scores[path] for path in expected], atol=1e-5)
    document = json.loads(files[1].read_text())
    assert [hit["path"] for hit in document["queries"][0]["hits"]] == expected
    assert document["settings"]["hashes"]["weights"] and document["templates"] == ["{}"]
    page = files[2].read_text()
    assert page.count("data:image/jpeg") == 6 and QUERY in page and "http:" not in page and "https:" not in page


def test_frames_of_hits_are_those_in_their_middle(made):
    from mote.datasets.decoding.decode import open_video, read_frames

    videos, out, _ = made
    with open_video(videos[3]) as video:
        times, count = video.times, video.num_frames
    for hit, number in (
        (Hit(str(videos[3]), None, None, None, 0.0), count // 2),
        (Hit(str(videos[3]), None, None, 2, 0.0), 2),
        (Hit(videos[3].name, float(times[4]), float(times[6]), None, 0.0), 5),
    ):
        assert np.array_equal(frame_of(hit, videos[3].parent), read_frames(videos[3], [number])[0])
    assert frame_of(Hit(str(videos[2]), None, None, None, 0.0), out) is None
    assert frame_of(Hit("gone.mp4", None, None, None, 0.0), out) is None


def test_another_model_is_refused_and_a_moved_one_is_found(made, tmp_path, capsys):
    videos, _, model = made
    meta = {**model.meta, "templates": model.templates, "frames": model.frames, "size": model.size}
    folder, out = tmp_path / "model", tmp_path / "out"
    save_model(folder, model.model, meta)
    assert mote("encode", folder, videos[0], "--out", out) == 0
    assert source_of(load_video(str(folder)))["model"] == str(folder)
    folder.rename(tmp_path / "moved")
    assert "say with --model where" in fails(capsys, "search", out, QUERY)
    assert mote("search", out, QUERY, "--model", tmp_path / "moved") == 0
    model = load_video(str(tmp_path / "moved"))
    model.model.logit_scale.data += 1
    save_model(tmp_path / "other", model.model, meta)
    assert "weights were" in fails(capsys, "search", out, QUERY, "--model", tmp_path / "other")
    assert mote("encode", tmp_path / "moved", videos[1], "--out", out) == 0  # where it lies is no setting


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--top", "0"], "--top 0: expected at least 1"),
        ([" "], "queries: number 2 is empty"),
        ([QUERY], "is there twice"),
    ],
)
def test_mistakes_are_one_line(made, capsys, arguments, said):
    assert said in fails(capsys, "search", made[1], QUERY, *arguments)


def test_folders_without_features_are_one_line(made, tmp_path, capsys):
    assert "no folder of features" in fails(capsys, "search", tmp_path, QUERY)
    shutil.copy(made[1] / "settings.json", tmp_path)
    assert "holds no features yet" in fails(capsys, "search", tmp_path, QUERY)

"""`overlap` against the published counts and word lists judged by hand; `train_test_duplicates` on real files."""

import csv
from pathlib import Path

import pytest

from mote.datasets.lists.manifest import Record
from mote.datasets.lists.overlap import Match, base_forms, overlap, train_test_duplicates

CLASSES = Path(__file__).resolve().parents[3] / "data" / "classes"


def names(file: str) -> list[str]:
    lines = (CLASSES / file).read_text(encoding="utf-8").splitlines()
    return [row[-1] for row in csv.reader(lines)][1:] if file.endswith(".csv") else lines


@pytest.mark.parametrize(
    ("file", "spelled", "inflected"),
    [  # 22 of 101 and 2 of 51 are the published counts; the inflected ones were picked out of both lists by reading
        ("ucf101.csv", 22, {
            "bench press": "bench pressing", "hula hoop": "hula hooping", "lunges": "lunge", "push ups": "push up",
            "throw discus": "throwing discus"}),
        ("hmdb51.csv", 2, {
            "brush hair": "brushing hair", "cartwheel": "cartwheeling", "clap": "clapping", "drink": "drinking",
            "hug": "hugging", "kiss": "kissing", "laugh": "laughing", "pullup": "pull ups",
            "shake hands": "shaking hands", "smoke": "smoking", "somersault": "somersaulting"}),
    ],
)  # fmt: skip
def test_overlap_with_kinetics400(file, spelled, inflected):
    matches = overlap(names("kinetics400.txt"), names(file))
    same = [match for match in matches if match.kind in ("literal", "case/space")]
    assert len(same) == spelled
    assert all(match.a_name.replace(" ", "") == match.b_name.replace(" ", "") for match in same)
    assert {match.b_name: match.a_name for match in matches if match.kind == "inflection"} == inflected
    assert [match.b_name for match in matches] == [name for name in names(file) if name in {m.b_name for m in matches}]


@pytest.mark.slow
def test_no_class_of_a_dataset_is_an_inflection_of_another_one_of_it():
    for file in ("kinetics400.txt", "ucf101.csv", "hmdb51.csv"):
        own = names(file)
        assert [m for i, name in enumerate(own) for m in overlap(own[:i], [name])] == []


def test_the_strictest_kind_wins_and_order_is_that_of_the_second_list():
    a = ["Pole Vault", "pole-vault", "bowl", "tai chi"]
    assert overlap(a, ["bowling", "TaiChi", "pole_vault", "pole-vault", "surfing"]) == [
        Match("bowling", "bowl", "inflection"),
        Match("TaiChi", "tai chi", "case/space"),
        Match("pole_vault", "Pole Vault", "case/space"),
        Match("pole-vault", "pole-vault", "literal"),
    ]
    assert overlap([], a) == overlap(a, []) == []


SAME = """bowl bowling, bowler bowling, push up/pushups, push ups/pushup, PushUps/push up, clap clapping
    clapped clapping, smoke smoking, hop hopping, hope hoping, tie tying, tied tying, carry carrying, carries carried
    carrier carry, dish dishes, bus buses, horse horses, kiss kissed, roll rolling, swimmer swimming, dance dancer
    ski skier, skiing skiers, drive driving, box boxing, play player, open opening, try tries, volleyball/volley ball
    shake hand/shaking hands, run running, ride horse/riding horses, punch punches, agree agreeing"""
OTHER = """archery archer, hop hope, hopping hoping, hope hopping, plan plane, king k, swing sw, bed b, seed see
    beer bee, speed spee, tennis tenni, bus bu, kiss kis, news new, flower flow, corner corn, something some
    evening even, string str, ring r, during dure, red r, bowling/bowling ball, ride horse/horse riding
    riding a bike/ride bike, run ran, swim swan, chess ches, wing w, sing sang, hammer ham"""


def word_pairs(text: str) -> list[tuple[str, str]]:
    rows = [row.strip() for line in text.splitlines() for row in line.split(",") if row.strip()]
    return [tuple(row.split("/") if "/" in row else row.split()) for row in rows if " " in row or "/" in row]


@pytest.mark.parametrize(("one", "two"), word_pairs(SAME))
def test_inflections_are_seen_both_ways(one, two):
    assert overlap([one], [two]) and overlap([two], [one])


@pytest.mark.parametrize(("one", "two"), word_pairs(OTHER))
def test_other_words_are_kept_apart(one, two):
    assert overlap([one], [two]) == overlap([two], [one]) == []


def test_a_word_is_its_own_base_form():
    for word in ("", "3d", "s", "ing", "ed", "é", "skiing", "ies", "ss", "class (in game)"):
        assert word in base_forms(word)


def records(*paths: Path) -> list[Record]:
    return [Record(path, 0) for path in paths]


def test_duplicates_by_path_link_and_content(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    folder.mkdir()
    contents = {"a": b"one", "b": b"two", "copy of b": b"two", "c": b"xyz", "d": b"another size", "e": b"", "f": b""}
    files = {}
    for name, content in contents.items():
        files[name] = folder / f"{name}.mp4"
        files[name].write_bytes(content)
    link = tmp_path / "link.mp4"
    link.symlink_to(files["a"])
    monkeypatch.chdir(tmp_path)
    relative = Path("videos") / "d.mp4"
    train = records(files["a"], files["b"], files["d"], files["e"])
    test = records(files["c"], link, files["copy of b"], relative, files["f"], files["f"])
    assert train_test_duplicates(train, test) == [
        (files["a"], link),
        (files["b"], files["copy of b"]),
        (files["d"], relative),
    ]
    assert train_test_duplicates(test, test[:1]) == [(files["c"], files["c"])]
    assert train_test_duplicates(train, []) == train_test_duplicates([], test) == []


def test_files_that_do_not_exist_are_compared_by_path(tmp_path):
    train, test = records(tmp_path / "a.mp4"), records(tmp_path / "b.mp4", tmp_path / "x" / ".." / "a.mp4")
    assert train_test_duplicates(train, test) == [(train[0].path, test[1].path)]


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    for name, content in {"a": b"12345", "b": b"1234", "c": b"6789"}.items():
        (tmp_path / name).write_bytes(content)
    read, real = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *more: (read.append(path.name), real(path, *more))[1])
    assert train_test_duplicates(records(tmp_path / "a"), records(tmp_path / "b")) == [] and read == []
    assert train_test_duplicates(records(tmp_path / "a", tmp_path / "b"), records(tmp_path / "c")) == []
    assert sorted(read) == ["b", "c"]

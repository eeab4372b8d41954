"""The text files in data/: complete, in canonical order, and free of the slips that shift every label by one."""

import csv
import tomllib
from itertools import product
from pathlib import Path

import pytest
import yaml

DATA = Path(__file__).resolve().parents[3] / "data"


def rows(name: str) -> list[tuple[str, str]]:
    """(id, name) of a class list; in a plain list the name is the id."""
    text = (DATA / "classes" / name).read_text(encoding="utf-8")
    if name.endswith(".txt"):
        return [(line, line) for line in text.splitlines()]
    header, *body = csv.reader(text.splitlines())
    assert header == ["id", "name"]
    return [(identifier, label) for identifier, label in body]


@pytest.mark.parametrize(("name", "count"), [("ucf101.csv", 101), ("hmdb51.csv", 51), ("kinetics400.txt", 400)])
def test_class_list_is_complete_ordered_and_clean(name, count):
    ids, names = zip(*rows(name), strict=True)
    assert len(ids) == count
    assert list(ids) == sorted(ids, key=str.casefold)
    assert len({i.casefold() for i in ids}) == len({n.casefold() for n in names}) == count
    for text in (*ids, *names):
        assert text and text == " ".join(text.split()) and text.isascii()
    raw = (DATA / "classes" / name).read_bytes()
    assert raw.endswith(b"\n") and b"\r" not in raw


def test_readable_names_spell_the_same_letters_as_the_ids():
    assert all(i.casefold() == n.replace(" ", "") and n == n.lower() for i, n in rows("ucf101.csv"))
    assert all(i.replace("_", " ") == n for i, n in rows("hmdb51.csv"))


@pytest.mark.parametrize(
    ("name", "index", "expected"),
    [  # 0-based labels published with each dataset: classInd.txt minus 1, sorted folders, Kinetics label map
        ("ucf101.csv", 0, "ApplyEyeMakeup"),
        ("ucf101.csv", 34, "Hammering"),
        ("ucf101.csv", 35, "HammerThrow"),
        ("ucf101.csv", 46, "JumpingJack"),
        ("ucf101.csv", 47, "JumpRope"),
        ("ucf101.csv", 100, "YoYo"),
        ("hmdb51.csv", 14, "flic_flac"),
        ("hmdb51.csv", 43, "swing_baseball"),
        ("hmdb51.csv", 50, "wave"),
        ("kinetics400.txt", 148, "hammer throw"),
        ("kinetics400.txt", 208, "passing American football (in game)"),
        ("kinetics400.txt", 260, "push up"),
        ("kinetics400.txt", 399, "zumba"),
    ],
)
def test_class_stands_at_its_published_index(name, index, expected):
    assert rows(name)[index][0] == expected


def test_overlap_of_ucf101_and_hmdb51_with_kinetics400_is_the_published_one():
    # 22 and 2 classes, counted in the method's notes on label leakage of "zero-shot" evaluation
    def letters(name: str) -> set[str]:
        return {"".join(label.casefold().split()) for _, label in rows(name)}

    assert len(letters("ucf101.csv") & letters("kinetics400.txt")) == 22
    assert len(letters("hmdb51.csv") & letters("kinetics400.txt")) == 2


def test_the_28_templates_are_four_media_times_seven_phrases():
    templates = (DATA / "templates" / "kinetics28.txt").read_text(encoding="utf-8").splitlines()
    media = ("photo", "video", "example", "demonstration")
    verbs = ("using", "doing", "during", "performing", "practicing")
    phrases = ("", "a person ", *(f"a person {verb} " for verb in verbs))
    assert len(templates) == len(set(templates)) == 28
    assert set(templates) == {f"a {medium} of {phrase}{{}}." for medium, phrase in product(media, phrases)}


def test_the_citation_names_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((DATA.parent / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((DATA.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["authors"]
    assert (f"{citation['title']}-video", citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"]
    assert all(entry["type"] and entry["title"] and entry["authors"] for entry in citation["references"])

"""Names that look alike are one; folders become words."""

import pytest

from mote.files.names import check_names, in_words, letters, plain, shown


@pytest.mark.parametrize("twin", ["cafe\u0301", "caf\u00e9", "ca\u200bf\u00e9", " caf\u00e9 ", "caf\u00e9\ufeff"])
def test_what_looks_alike_is_one_name(twin):
    assert plain(twin) == "caf\u00e9" and letters(f"{twin}-Bar") == "cafébar"


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("brush_hair", "brush hair"),
        ("TVShow", "TV Show"),
        ("shoot_ball", "shoot ball"),
        ("Drive a McLaren", "Drive a McLaren"),
        ("abseiling", "abseiling"),
        ("UCF", "UCF"),
        ("_", "_"),
        ("high-jump", "high-jump"),
    ],
)
def test_folders_become_words(folder, words):
    assert in_words(folder) == words


def test_empty_and_equal_names_are_refused_and_what_differs_is_shown():
    check_names(["a", "b"])
    with pytest.raises(ValueError, match="labels: number 3 is empty"):
        check_names(["a", "b", ""], "labels")
    with pytest.raises(ValueError, match="number 2 is empty"):
        check_names(["a", "\u200b"])
    with pytest.raises(ValueError, match="'a' is there twice"):
        check_names(["a", "a"])
    with pytest.raises(ValueError, match=r"'cafe\\u0301'\) and .*'caf\\xe9'\) are one name"):
        check_names(["caf\u00e9", "cafe\u0301"])
    assert shown("clap") == "'clap'"

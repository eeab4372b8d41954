"""Which names a list is scored over, and what is said of them."""

from types import SimpleNamespace

import pytest

from mote.evaluation.vocabulary import added_classes, order_warning, own_classes, words_warning


def listing(names, folders=True, classes=None):
    """A list whose names are those of folders, or stand in a class file."""
    return SimpleNamespace(classes=classes, names=lambda: list(names), folder_names=lambda: folders)


def tuned(*names):
    return SimpleNamespace(classes=list(names) or None)


def test_names_of_folders_become_words_unless_they_are_those_of_tuning():
    folders = listing(["HandStand", "jump_rope"])
    assert own_classes(tuned(), folders, new=True) == ["Hand Stand", "jump rope"]
    assert own_classes(tuned("HandStand", "jump_rope"), folders, new=True) == ["HandStand", "jump_rope"]
    assert own_classes(tuned("Hand\u200b Stand", "jump rope"), folders, new=True) == ["Hand\u200b Stand", "jump rope"]
    assert own_classes(tuned("walk", "run"), folders, new=True) == ["Hand Stand", "jump rope"]
    assert own_classes(tuned("walk", "run"), folders) == ["walk", "run"]
    assert own_classes(tuned(), listing(["HandStand"], folders=False), new=True) == ["HandStand"]


def test_that_words_were_made_of_folders_is_said():
    (said,) = words_warning(["Hand Stand", "jump rope"], listing(["HandStand", "jump_rope"]), tuned())
    assert "HandStand -> Hand Stand, jump_rope -> jump rope" in said
    assert words_warning(["HandStand"], listing(["HandStand"]), tuned("HandStand")) == []
    assert words_warning(["hand stand"], listing(["HandStand"], folders=False), tuned()) == []
    assert words_warning(["hand stand", "x"], listing(["HandStand"]), tuned()) == []  # a union has more


def test_the_first_class_that_stands_elsewhere_is_named():
    (said,) = order_warning(["a", "c", "b"], ["a", "b", "c"])
    assert said.endswith("class 1 is 'c', there 'b'")
    assert (
        order_warning(["a", "b"], ["a", "b"])
        == order_warning(["a", "b"], ["a", "c"])
        == order_warning(["a"], None)
        == []
    )


def test_a_union_adds_what_is_not_there_in_any_spelling(tmp_path):
    (tmp_path / "union.txt").write_text("Jump-Rope\nskip_rope\nSkip Rope\nrun\n")
    assert added_classes(["jump rope"], str(tmp_path / "union.txt")) == ["skip_rope", "run"]
    assert added_classes(["jump rope"], None) == []
    with pytest.raises(ValueError, match="the union adds nothing"):
        added_classes(["jump rope", "skip rope", "RUN"], str(tmp_path / "union.txt"))

"""Sections on classes of unequal size: there are none where the classes are of equal size."""

from mote.reporting.imbalance_sections import imbalance_sections

ROW = {"training": 4, "correct": 1, "listed": 2, "recall": 0.5, "interval": [0.1, 0.9], "f1": 0.5}


def test_a_page_says_nothing_about_unequal_classes_where_they_are_equal(tmp_path):
    result = {"macro_f1": 0.5, "training_counts": {"a": 4, "b": 4}}
    result |= {"classes": [{"class": name, **ROW} for name in ("a", "b")]}
    assert imbalance_sections(result, tmp_path) == []
    assert not {*tmp_path.iterdir()}

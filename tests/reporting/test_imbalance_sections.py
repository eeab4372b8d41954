"""Sections on classes of unequal size: there are none where the classes are of equal size."""

from mote.reporting.imbalance_sections import imbalance_sections

ROW = {"training": 4, "correct": 1, "listed": 2, "recall": 0.5, "interval": [0.1, 0.9], "f1": 0.5}


def test_a_balanced_result_has_no_groups_and_no_mined_knowledge_on_its_page(tmp_path):
    result = {"macro_f1": 0.5, "training_counts": {"a": 4, "b": 4}}
    result |= {"classes": [{"class": name, **ROW} for name in ("a", "b")]}
    (section,) = imbalance_sections(result, tmp_path)
    assert section.heading == "Accuracy by class" and "All classes have 4 training samples" in section.text
    assert not {*tmp_path.iterdir()}

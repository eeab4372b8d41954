"""The page of a protocol: its table and its sentence say the numbers of the parts, whatever the parts are."""

import pytest

from mote.protocols.joining import joined, pooled_classes, rules_of
from mote.protocols.table import PROTOCOLS
from mote.reporting.protocol_page import conclusion, parts_table, write_protocol_page


def part(right: int, listed: int, rules) -> dict:
    """A list of two classes: all of "a" that is right, none of "b"."""
    classes = [("a", right, right), ("b", 0, listed - right)]
    rows = [{"class": name, "correct": c, "listed": n, "recall": c / n} for name, c, n in classes]
    numbers = {"top1": right / listed, "top5": 1.0, "top5_k": 2, "mean_class_recall": 0.5}
    numbers |= {"top1_interval": [0.25, 0.75], "top5_interval": [0.9, 1.0], "warnings": []}
    return {**numbers, "listed": listed, "scored": listed, "per_class": rows, "protocol": rules}


def result(name: str, *right: int, departures=()) -> dict:
    rules = rules_of(PROTOCOLS[name], [*departures])
    lists = {f"fold{number}": part(k, 10, rules) for number, k in enumerate(right, 1)}
    return {"task": name, **joined(lists), "protocol": rules}


def test_of_folds_there_are_each_their_mean_and_all_clips_together():
    table = parts_table(result("dfew", 4, 6))
    assert [row["fold"] for row in table] == ["fold1", "fold2", "mean", "all clips"]
    assert [row["WAR (%)"] for row in table] == ["40.0 [25.0, 75.0]", "60.0 [25.0, 75.0]", "50.0 ± 10.0", "50.0"]
    assert table[-1]["clips"] == 20 and "top-2 (%)" not in table[0]


def test_of_one_list_nothing_is_a_mean(tmp_path):
    one = result("ucf101-zs-full", 4)
    assert [row["top-1 (%)"] for row in parts_table(one)] == ["40.0 [25.0, 75.0]"]
    assert "±" not in conclusion(one) and "40.0 % of 10 clips (95 % interval 25.0 to 75.0 %)" in conclusion(one)
    page = write_protocol_page(tmp_path / "a.html", one, pooled_classes(one["lists"].values()), {"fold1": {}}, {})
    assert "half" not in page.read_text() and "Each list" not in page.read_text()


@pytest.mark.parametrize(
    ("departures", "words"), [([], "the rules were kept"), (["x"], "in one point"), ("xy", "in 2")]
)
def test_the_sentence_says_whether_the_rules_were_kept(departures, words):
    found = conclusion(result("ucf101-zs", 2, 4, 6, departures=departures))
    assert "mean top-1 is 40.0 ± 16.3 % over 3 lists (from 20.0 to 60.0 %)" in found and words in found

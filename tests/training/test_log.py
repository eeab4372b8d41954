import pytest

from mote.training.log import JsonlWriter, read_log, rewind


def test_round_trip_keeps_floats_exactly(tmp_path):
    path = tmp_path / "log.jsonl"
    records = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-300, "time": {"seconds": 1 / 3}}]
    with JsonlWriter(path) as log:
        for record in records:
            log.write(record)
            assert path.read_text().endswith("\n")  # flushed before the next record
    assert read_log(path) == records


def test_a_cut_last_line_is_left_out_and_a_rewound_log_continues(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 2, "evaluation": {}}\n{"step": 3}\n{"step": 4, "lo')
    assert [record["step"] for record in read_log(path)] == [1, 2, 2, 3]
    rewind(path, 2)
    with JsonlWriter(path) as log:
        log.write({"step": 3, "new": True})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 2, "evaluation": {}}\n{"step": 3, "new": true}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_missing_log_is_empty_and_a_broken_line_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2"):
        read_log(path)


def test_nan_is_refused(tmp_path):
    with JsonlWriter(tmp_path / "log.jsonl") as log, pytest.raises(ValueError):
        log.write({"step": 1, "loss": float("nan")})

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracles import sampling_reference as oracle

from mote.datasets.sampling import clip_indices
from mote.protocols.table import PROTOCOLS, protocol_named

DATA = Path(__file__).resolve().parents[2] / "data"


def files(protocol):
    return {name: DATA / name for name in protocol.files()}


def field_indices(length: int, frames: int, clips: int) -> list[list[int]]:
    """Released test code of MoTE and BIKE in words: floored linspace of starts, floored sums, modulo the length."""
    tick = length / float(frames)
    starts = np.linspace(0, tick - 1, num=clips, dtype=int)
    return [[int(start + tick * x) % length for x in range(frames)] for start in starts.tolist()]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_frames_of_every_protocol_are_those_of_the_field(protocol):
    assert protocol.sampling == "segment"
    for frames in (protocol.frames,) if protocol.frames else (8, 16):
        for length in range(1, 1001):
            wrap = protocol.places == "released"
            found = clip_indices(length, frames, protocol.clips, wrap=wrap).tolist()
            if length >= frames or protocol.clips == 1 or wrap:
                assert found == field_indices(length, frames, protocol.clips)
            else:  # there the field's starts are negative and wrap around to the end: others stay at 0
                assert found == oracle.clips(length, frames, protocol.clips)


def test_subsets_are_declared_and_change_the_digest():
    protocol = PROTOCOLS["k600-zs"]
    one, other = protocol.declared("validation"), protocol.declared("test")
    assert one.videos == (7276, 7226, 7261) and other.videos == (14858, 14750, 14874)
    assert len({p.digest(files(p)) for p in (protocol, one, other)}) == 3
    assert one.differences() == other.differences() == []
    assert replace(other, alpha=0.5).differences() == ["alpha is 0.5, not 1.0"]
    with pytest.raises(ValueError, match="validation or test; got no subset"):
        protocol.declared(None)


def test_shipped_files_exist_and_digests_differ():
    digests = {protocol.digest(files(protocol)) for protocol in PROTOCOLS.values()}
    assert len(digests) == len(PROTOCOLS) == 18


def test_a_digest_follows_fields_and_file_contents_but_not_notes(tmp_path):
    protocol = protocol_named("ucf101-zs@1")
    digest = protocol.digest(files(protocol))
    assert replace(protocol, notes="anything").digest(files(protocol)) == digest
    assert replace(protocol, clips=4).digest(files(protocol)) != digest
    swapped = (DATA / "classes/ucf101.csv").read_text().replace("archery", "bow shooting")
    (tmp_path / "classes.csv").write_text(swapped)
    assert protocol.digest(files(protocol) | {"classes/ucf101.csv": tmp_path / "classes.csv"}) != digest


@pytest.mark.parametrize("name", ["ucf101", "ucf101-zs@2", ""])
def test_an_unknown_name_or_version_lists_what_there_is(name):
    with pytest.raises(ValueError, match="ucf101-zs@1"):
        protocol_named(name)

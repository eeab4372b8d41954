from dataclasses import replace
from pathlib import Path

import pytest

from mote.evaluation.protocols import PROTOCOLS, protocol_named

DATA = Path(__file__).resolve().parents[2] / "data"


def files(protocol):
    return {name: DATA / name for name in protocol.files()}


def test_shipped_files_exist_and_digests_differ():
    digests = {protocol.digest(files(protocol)) for protocol in PROTOCOLS.values()}
    assert len(digests) == len(PROTOCOLS) == 10


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

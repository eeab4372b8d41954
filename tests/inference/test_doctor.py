import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from command_line import mote
from served_files import served

from mote.inference import doctor
from mote.inference.doctor import CHECKS, EXTRAS, Finding, look


def of(topic: str, name: str | None = None) -> list[Finding]:
    return [finding for finding in CHECKS[topic]() if name in (None, finding.topic)]


@pytest.fixture
def online(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with served(tmp_path) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def test_the_verb_says_a_line_for_everything_and_has_json(online, capsys):
    assert mote("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "slow", "missing") for line in lines)
    topics = [line[8:22].strip() for line in lines]
    for topic in (
        "system",
        "packages",
        "devices",
        "bf16",
        "decoder",
        "features",
        "weights",
        "network",
        "disk",
        *EXTRAS,
    ):
        assert topic in topics
    assert mote("doctor", "--json") == 0
    assert [item["topic"] for item in json.loads(capsys.readouterr().out)] == topics


def test_the_network_is_asked_for_a_short_time(online, monkeypatch, tmp_path):
    assert of("network")[0].state == "ok"  # a folder listing is refused there, which is an answer
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(doctor, "PATIENCE", 0.2)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        (found,) = of("network")
    assert found.state == "missing" and "offline: " in found.text and "only `tiny`" in found.text
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    assert of("network")[0].state == "missing"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "switched off by HF_HUB_OFFLINE" in of("network")[0].text


def test_an_extra_that_is_not_installed_names_its_command(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    for finding in of("extras"):
        assert finding.state == "missing" and f"pip install 'mote-video[{finding.topic}]'" in finding.text
    assert of("decoder", "decord")[0].state == "missing"


def test_extras_are_those_of_the_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    assert {line.split(" = ")[0] for line in extras.splitlines() if " = [" in line} == set(EXTRAS)


def test_little_room_is_said(monkeypatch):
    assert {name for finding in of("disk", "disk") for name in finding.text[:-1].partition("(")[2].split(", ")} == {
        "here", "cache", "weights", "temporary",
    }  # fmt: skip
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(2, 1, 1))  # type: ignore[attr-defined]
    assert {finding.state for finding in of("disk", "disk")} == {"missing"}
    if Path("/dev/shm").is_dir():
        assert "data.workers=0" in of("disk", "shared memory")[0].text


def test_what_cannot_be_looked_at_is_a_line_too(monkeypatch, capsys):
    def broken():
        raise OSError("no such driver\nmore")

    monkeypatch.setattr(doctor, "CHECKS", {"devices": broken, "disk": CHECKS["disk"]})
    found = list(look())
    assert found[0] == Finding("devices", "broken", "OSError: no such driver") and len(found) > 1
    assert mote("doctor") == 1
    assert os.linesep.join(capsys.readouterr().out.splitlines()[:1]).startswith("broken  devices")

"""Frames of live streams: none lost from a pipe, times that grow, a stream that drops and comes back."""

import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from video_files import numbered_frames, numbers, write_video

from mote.datasets.decoding import live
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.live import is_live, live_frames
from mote.datasets.decoding.live_clock import StreamClock

COUNT = 50
READ = """
import sys
from mote.datasets.decoding.live import live_frames
for seconds, frame in live_frames(sys.argv[1]):
    print(f"{seconds:.3f}", frame.shape, flush=True)
print("written", flush=True)
"""


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("live") / "a.ts"
    return write_video(path, numbered_frames(COUNT), codec="mpeg2video", b_frames=2)


def piped(path: Path, content: bytes) -> Path:
    """A named pipe into which a thread writes."""
    os.mkfifo(path)
    threading.Thread(target=lambda: path.write_bytes(content), daemon=True).start()
    return path


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_a_pipe_loses_nothing_and_ends(tmp_path, monkeypatch, name):
    monkeypatch.setattr(live, "HELD", 2 * 96 * 128 * 3)
    film = write_video(tmp_path / name, numbered_frames(COUNT), codec="mpeg2video", b_frames=2)
    pipe = piped(tmp_path / "pipe", film.read_bytes())
    assert is_live(pipe) and is_live(str(pipe))
    found = []
    for item in live_frames(pipe):
        found.append(item)
        time.sleep(0.001)  # slower than it comes
    assert numbers(np.stack([frame for _, frame in found])) == list(range(COUNT))
    assert [seconds for seconds, _ in found] == pytest.approx(np.arange(COUNT) / 25, abs=2e-3)


def test_the_standard_input(stream):
    done = subprocess.run([sys.executable, "-c", READ, "-"], input=stream.read_bytes(), capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "0.040 (96, 128, 3)" and len(lines) == COUNT + 1 and done.stderr == b""


def test_a_pipe_that_holds_no_video(tmp_path):
    with pytest.raises(DecodeError, match=r"Invalid data found .*; check the address and whether"):
        list(live_frames(piped(tmp_path / "pipe", b"no video" * 1000)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_frames_and_what_follows_is_done(stream, tmp_path, number):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", READ, str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        writing = os.open(pipe, os.O_RDWR)  # which waits for no reader
        os.write(writing, stream.read_bytes()[:60_000])
        process.stdout.readline()
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)  # while the pipe is still open
        os.close(writing)
    assert output.endswith("written\n") and process.returncode == 0
    assert errors == f"mote: {pipe}: ended by {number.name}\n"


def test_a_stream_that_drops_and_comes_back(stream, capfd, monkeypatch):
    """Over HTTP, as of a camera: twice the same film, with half a second in between in which nobody answers."""
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.2)
    content, seen = stream.read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(time.monotonic())
            if len(seen) == 2:
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://u:pw123@127.0.0.1:{server.server_port}/cam.ts?key=topsecret"
    found = []
    for item in live_frames(address, retry_seconds=30.0):
        found.append(item)
        if len(found) == 2 * COUNT:
            break
    server.shutdown()
    server.server_close()
    times = [seconds for seconds, _ in found]
    assert numbers(np.stack([frame for _, frame in found])) == 2 * list(range(COUNT))
    assert all(b > a for a, b in pairwise(times))
    assert times[COUNT] - times[0] >= max(seen[2] - seen[0] - 0.2, (COUNT - 2) / 25)
    errors = capfd.readouterr().err
    shown = f"mote: http://127.0.0.1:{server.server_port}/cam.ts"
    assert re.search(rf"{shown}: (the stream ended|the connection was lost); trying again in 0\.2 s\n", errors)
    assert f"{shown}: it is back after " in errors
    assert "pw123" not in errors and "topsecret" not in errors


def test_a_stream_that_stays_away(stream, monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(live, "NETWORK", f"{live.NETWORK},file")
    address = f"file://{stream}"
    with pytest.raises(DecodeError, match=r"the stream ended; it did not come back within 0\.05 s$"):
        list(live_frames(address, retry_seconds=0.05))
    assert len(list(live_frames(address, retry_seconds=0.0))) == COUNT


def test_of_a_camera_that_is_faster_than_its_reader_the_oldest_frames_are_left_out(stream, monkeypatch, capfd):
    monkeypatch.setattr(live, "HELD", 4 * 96 * 128 * 3)
    monkeypatch.setattr(live, "NETWORK", f"{live.NETWORK},file")
    found = []
    for seconds, frame in live_frames(f"file://{stream}", retry_seconds=0.0):
        if not found:
            time.sleep(0.5)
        found.append((seconds, frame))
    kept = numbers(np.stack([frame for _, frame in found]))
    assert len(kept) <= 6 and kept[-4:] == list(range(COUNT - 4, COUNT))
    assert f"{COUNT - len(kept)} frames were left out, as they came faster than" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("/dev/video77", "^/dev/video77: .*there is no such pipe or camera; check"),
        (
            "rtsp://u:pw123@127.0.0.1:1/1?key=2",
            r"^rtsp://127\.0\.0\.1:1/1: cannot .* by pyav: Connection refused; ",
        ),
        (
            "http://u:pw123@127.0.0.1:1/1",
            r"^http://127\.0\.0\.1:1/1: .*Connection refused; check the address",
        ),
    ],
)
def test_what_cannot_be_opened_is_one_line(address, cause):
    with pytest.raises(DecodeError, match=cause) as caught:
        next(live_frames(address))
    assert "pw123" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="expected retry_seconds >= 0 and silence_seconds > 0"):
        next(live_frames(address, silence_seconds=0.0))


def test_what_is_live(tmp_path, stream):
    assert [is_live(place) for place in ("-", "rtsp://h/1", "rtmp://h/1", "/dev/video0", "http://h/a.mp4", stream)] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_times_of_a_stream_always_grow(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def at(clock, moment, own, rate=25.0):
        now[0] = 100.0 + moment
        return clock.time(own, rate)

    clock = StreamClock(trusting=False)
    assert at(clock, 0, 5000.0) == 0 and at(clock, 0.1, 5000.04) == pytest.approx(0.04)
    assert at(clock, 0.2, 3.0) == pytest.approx(0.2)  # it began anew
    assert at(clock, 0.3, 3.04) == pytest.approx(0.24)
    assert at(clock, 1, 9000.0) == pytest.approx(1)  # a jump that the clock does not know
    clock.interrupted()
    assert at(clock, 60, 9000.5) == pytest.approx(60)
    assert at(clock, 60, None) > 60
    pipe = StreamClock(trusting=True)
    assert [at(pipe, 0, own) for own in (1.0, 1.04, 500.0, 2.0, 2.5, None, float("nan"))] == pytest.approx(
        [0, 0.04, 499, 499.04, 499.54, 499.58, 499.62]
    )
    late = StreamClock(trusting=True)
    assert [at(late, 0, own) for own in (None, 7.0, 7.5)] == pytest.approx([0, 0.04, 0.54])


class Camera(socketserver.StreamRequestHandler):
    """An RTSP server that refuses every transport (RFC 2326) and notes what it was asked for."""

    PICTURES = "v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:0\r\n"

    def handle(self):
        while line := self.rfile.readline().decode().strip():
            headers = dict(iter(lambda: self.rfile.readline().decode().strip().partition(": ")[::2], ("", "")))
            verb, body, status = line.split()[0], "", "200 OK"
            if verb == "DESCRIBE":
                body = self.PICTURES
            if verb == "SETUP":
                self.server.asked.append(headers["Transport"].split(";")[0])
                status = "461 Unsupported Transport"
            kind = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
            answer = f"RTSP/1.0 {status}\r\nCSeq: {headers['CSeq']}\r\nPublic: OPTIONS, DESCRIBE, SETUP\r\n{kind}\r\n"
            self.wfile.write((answer + body).encode())


def test_a_camera_is_asked_for_tcp_which_loses_nothing_and_then_for_udp():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.asked, server.daemon_threads = [], True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(DecodeError):
            list(live_frames(f"rtsp://127.0.0.1:{server.server_address[1]}/x", retry_seconds=0, silence_seconds=5))
        server.shutdown()
    assert list(dict.fromkeys(server.asked)) == ["RTP/AVP/TCP", "RTP/AVP/UDP"]

"""A local HTTP server over a folder, which can be told to misbehave."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Served:
    """What the server does, and what it has seen.

    Attributes:
        ranges: answer requests for parts with parts.
        marks: send an ETag made of the file.
        length: send the length of whole answers.
        status: send this instead of files.
        cut: bytes after which an answer is broken off, so many times as `cuts` says.
        before: called with the number of each request, from 1, and the file, before it is answered.
        sent: bytes of files; requests: (path, range, authorization) of each.
    """

    def __init__(self, folder: Path):
        self.folder, self.ranges, self.marks, self.length = folder, True, True, True
        self.status: int | None = None
        self.cut: int | None = None
        self.cuts = 0
        self.kind = "video/mp4"
        self.before: Callable[[int, Path], None] = lambda number, file: None
        self.sent, self.requests = 0, []
        self.address = ""


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve `folder` on a free port of this machine."""
    state = Served(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, state)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients go away in the middle
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, state: Served) -> None:
    asked = handler.headers.get("Range")
    state.requests.append((handler.path, asked, handler.headers.get("Authorization")))
    file = state.folder / handler.path.partition("?")[0].lstrip("/")
    state.before(len(state.requests), file)
    if state.status is not None or not file.is_file():
        handler.send_response(state.status or 404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    whole = file.read_bytes()
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "") if state.ranges else None
    start, end = (int(found[1]), min(int(found[2]) + 1, len(whole))) if found else (0, len(whole))
    handler.send_response(206 if found else 200)
    handler.send_header("Content-Type", state.kind)
    if found:
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(whole)}")
    if state.marks:
        handler.send_header("ETag", f'"{hash(whole)}"')
    if state.length:
        handler.send_header("Content-Length", str(end - start))
    else:
        handler.send_header("Connection", "close")
    handler.end_headers()
    body = whole[start:end]
    if state.cut is not None and state.cuts > 0 and len(body) > state.cut:
        state.cuts -= 1
        body = body[: state.cut]
        handler.close_connection = True
    handler.wfile.write(body)
    state.sent += len(body)
    if not state.length:
        handler.close_connection = True

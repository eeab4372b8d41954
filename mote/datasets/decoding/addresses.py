"""What lies at an address, in parts: HTTP by range requests, `s3://`, `gs://`, `hf://` and others as fsspec reads them.

A server that ignores a range is read once, from start to end. Credentials are what fsspec finds; messages hold none.
"""

import errno
import hashlib
import json
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

import fsspec
from fsspec.asyn import sync
from fsspec.config import conf

from mote.datasets.decoding.errors import RemoteError
from mote.datasets.decoding.network_errors import CONNECT, SILENCE, with_errors
from mote.datasets.decoding.reading import CHANGED
from mote.files.addresses import scheme, without_secrets

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from fsspec.implementations.http import HTTPFileSystem
    from fsspec.spec import AbstractFileSystem

LIVE = {"mms", "mmsh", "mmst", "rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "srtp", "tcp", "udp"}
PAGE = "it is a page, not a video; give the address of the file itself"
NO_NUMBERS = "it is a live stream, whose frames have no numbers; mote predict --window reads those"
FIRST = 2**16  # bytes asked for when a file is opened
SETTLED = 2.0  # seconds: a file younger than this could change again without a new Last-Modified
MARKS = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "modified", "created", "generation")
MARKS += ("updated", "md5Hash", "crc32c", "content_md5", "blob_id", "version_id", "VersionId")  # of fsspec's `info`
Keep = Callable[[int, bytes], None]  # where a piece begins, and its bytes


class State(NamedTuple):
    """What changes when a file does, as its server says: size in bytes, and marks such as its ETag ("" if none)."""

    size: int
    marks: str


class Store:
    """A file as fsspec reads it: `state`, and `whole` where all of it was handed to `keep` on opening."""

    whole = False

    def __init__(self, address: str, keep: Keep | None = None):
        """Opened, or only asked for its state (keep=None). Raises RemoteError."""
        self._address = address
        with_errors(address, self._open, keep)

    def part(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`. Raises RemoteError."""
        read = partial(self._fs.cat_file, start=start, end=end)  # where they stand is not the same in all file systems
        data = with_errors(self._address, read, self._path)
        if len(data) != end - start:
            raise RemoteError(f"it ended at byte {start + len(data)} of {self.state.size}; read it again")
        return data

    def changed(self) -> bool:
        """Whether what was handed out may be of two versions. Raises RemoteError."""
        return with_errors(self._address, self._ask) != self.state

    def _open(self, keep: Keep | None) -> None:
        self._fs, self._path = filesystem(self._address)
        self.state = self._ask()

    def _ask(self) -> State:
        self._fs.invalidate_cache(self._fs._parent(self._path))
        info = self._fs.info(self._path)
        if info.get("type") == "directory":
            raise RemoteError("it is a folder; end its address with / to have it searched")
        if info.get("size") is None:
            raise RemoteError("its size is not known; copy the file here first")
        marks = [f"{name}={info[name]}" for name in MARKS if info.get(name)]
        return State(int(info["size"]), " ".join(marks))


class HttpStore(Store):
    """A file of an HTTP server; every answer must be of the version that the first one was of."""

    _fs: "HTTPFileSystem"

    def part(self, start: int, end: int) -> bytes:
        """See `Store.part`."""
        return with_errors(self._address, lambda: sync(self._fs.loop, self._range, start, end))

    def changed(self) -> bool:
        """See `Store.changed`: parts were compared as they came."""
        if not self.whole or self.state is None:
            return False
        now = with_errors(self._address, self._head)
        return now.marks != self.state.marks or now.size not in (-1, self.state.size)

    def _open(self, keep: Keep | None) -> None:
        self._fs, self._path = filesystem(self._address)  # pyright: ignore[reportAttributeAccessIssue]
        self.state = self._head() if keep is None else sync(self._fs.loop, self._first, keep)

    def _head(self) -> State:
        return cast(State, sync(self._fs.loop, self._asked))

    async def _asked(self) -> State:
        async with await self._get(0, 1) as response:  # not HEAD, which many signatures do not allow
            return _state(response)

    async def _first(self, keep: Keep) -> State:
        async with await self._get(0, FIRST) as response:
            state = _state(response)
            if response.status == 416:
                return State(max(state.size, 0), state.marks)
            if response.status != 206:
                return await self._download(response, keep)
            if state.size >= 0 and _is_plain(response):
                _check_kind(response)
                keep(0, await response.read())
                return state
        async with await self._get() as response:  # parts that cannot be put together
            return await self._download(response, keep)

    async def _download(self, response: "ClientResponse", keep: Keep) -> State:
        _check_kind(response)
        state = _state(response)
        host = urlsplit(self._address).hostname
        text = f"{host}: this server gives no parts of files; each is downloaded whole, to {tempfile.gettempdir()}"
        warnings.warn(text, stacklevel=2)
        check_room(max(state.size, 0))
        self.whole, total = True, 0
        async for piece in response.content.iter_chunked(2**20):
            keep(total, piece)
            total += len(piece)
        if state.size not in (-1, total):
            raise ConnectionResetError(f"{total} of {state.size} bytes came")
        return State(total, state.marks)

    async def _range(self, start: int, end: int) -> bytes:
        async with await self._get(start, end) as response:
            if response.status == 416 or _state(response) != self.state:
                raise RemoteError(CHANGED)
            if response.status != 206 or not _is_plain(response):
                raise RemoteError("its server gives parts of files at one time and not at another; copy it here first")
            data = await response.read()
            if len(data) != end - start:
                raise ConnectionResetError(f"{len(data)} of {end - start} bytes came")
            return data

    async def _get(self, start: int = 0, end: int | None = None) -> "ClientResponse":
        """The answer to a request for a part, or all; raises for a status that says that there is none."""
        session = await self._fs.set_session()
        headers = {**self._fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        options = {**self._fs.kwargs, "headers": headers}
        response = await session.get(self._fs.encode_url(self._path), **options)
        if response.status != 416:
            try:
                response.raise_for_status()
            except BaseException:
                response.close()
                raise
        return response


def open_store(address: str, keep: Keep | None = None) -> Store:
    """What lies at an address; see `Store`. Raises RemoteError."""
    return (HttpStore if scheme(address) in ("http", "https") else Store)(address, keep)


def address_key(address: str) -> str:
    """64 hexadecimal digits that stand for the content at an address, as far as its server tells versions apart.

    Raises:
        OSError: it cannot be asked, or tells no version of the file (no ETag, no time of modification).
    """
    try:
        state = open_store(address).state
    except RemoteError as error:
        raise OSError(errno.EIO, str(error), without_secrets(address)) from None
    if not state.marks or _is_young(state.marks):
        raise OSError(errno.EINVAL, "its server tells no version of it", without_secrets(address))
    signed = ("x-amz-", "x-goog-", "signature", "expires", "key-pair-id", "policy", "awsaccesskeyid", "googleaccessid")
    query = [(k, v) for k, v in parse_qsl(urlsplit(address).query, True) if not k.lower().startswith(signed)]
    return hashlib.sha256(json.dumps([without_secrets(address), query, *state]).encode()).hexdigest()


def filesystem(address: str) -> "tuple[AbstractFileSystem, str]":
    """fsspec's file system for an address, and what it calls the file.

    Raises:
        RemoteError: no such kind of address, or a package is missing; it says which.
    """
    kind = scheme(address) or ""
    if kind in LIVE:
        raise RemoteError(NO_NUMBERS)
    system = check_installed(kind)
    options = system._get_kwargs_from_urls(address)
    if kind in ("http", "https"):
        from aiohttp import ClientTimeout

        own = conf.get(kind, {}).get("client_kwargs", {})
        timeout = ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        options = {**options, "client_kwargs": {"timeout": timeout, "trust_env": True, **own}}
    return system(**options), str(system._strip_protocol(address))


def find_files(address: str) -> list[str] | None:
    """Addresses of the files below a folder of a bucket, sorted, hidden ones left out; None where it is a file.

    Raises:
        RemoteError: a folder (its address ends with /) that cannot be listed.
    """
    try:
        system, path = with_errors(address, filesystem, address)
        if not address.endswith("/") and not with_errors(address, system.isdir, path):
            return None
        names = sorted(with_errors(address, system.find, path))
    except RemoteError:
        if address.endswith("/"):
            raise
        return None  # reading it will tell
    start = len(path.rstrip("/"))
    return [system.unstrip_protocol(name) for name in names if "/." not in name[start:]]


def check_installed(kind: str) -> "type[AbstractFileSystem]":
    """fsspec's class for addresses of a kind such as "https"; raises RemoteError, saying what to install."""
    try:
        return fsspec.get_filesystem_class(kind)
    except ImportError as error:
        package = {
            "http": "mote-video[remote]",
            "https": "mote-video[remote]",
            "s3": "s3fs",
            "gs": "gcsfs",
            "gcs": "gcsfs",
        }
        found = re.search(r"[Ii]nstall (?:\"|')?([\w.\[\]-]+)", str(error))
        name = package.get(kind) or (found[1] if found else "the package that fsspec needs for it")
        raise RemoteError(f"addresses with {kind}:// need another package; pip install '{name}'") from None
    except ValueError:
        raise RemoteError(f"{kind}:// is no kind of address that fsspec knows; use https, s3, gs or hf") from None


def check_room(size: int, spare: int = 2**28) -> None:
    """Raise RemoteError where `size` bytes, and some to spare, do not fit beside the other temporary files."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size + spare > free:
        need, there = f"{size / 1e9:.3g} GB", f"{max(free - spare, 0) / 1e9:.3g} GB"
        place = tempfile.gettempdir()
        raise RemoteError(f"{need} do not fit into {place}, which has room for {there}; make room, or set TMPDIR")


def _state(response: "ClientResponse") -> State:
    """Size (-1: unknown) and version of the file that an answer is of."""
    headers: Mapping[str, str] = response.headers
    total = re.fullmatch(r"bytes\s+(?:\d+-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    size = int(total[1]) if total else -1
    if response.status == 200 and _is_plain(response):
        size = int(headers.get("Content-Length", -1))
    marks = [f"{name}={headers[name]}" for name in ("ETag", "Last-Modified") if headers.get(name)]
    return State(size, " ".join(marks))


def _check_kind(response: "ClientResponse") -> None:
    """Raise RemoteError for an answer that is of no file."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise RemoteError(NO_NUMBERS)
    if kind in ("text/html", "application/xhtml+xml"):
        raise RemoteError(PAGE)


def _is_plain(response: "ClientResponse") -> bool:
    return response.headers.get("Content-Encoding", "identity") in ("", "identity")


def _is_young(marks: str) -> bool:
    """Whether a file could change again without another Last-Modified, which counts seconds and is all there is."""
    name, _, text = marks.partition("=")
    try:
        return name == "Last-Modified" and time.time() - parsedate_to_datetime(text).timestamp() < SETTLED
    except ValueError:
        return True

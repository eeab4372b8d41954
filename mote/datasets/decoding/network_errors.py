"""Errors of aiohttp, fsspec and the system about an address, in words that help and without its secrets."""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from mote.datasets.decoding.errors import RemoteError
from mote.files.addresses import cleaned

CONNECT, SILENCE = 10.0, 30.0  # seconds until a host answers, and between two pieces of an answer
PAUSES = (0.5, 1.0, 2.0)  # seconds before a lost connection is tried again
LOST = {"ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "ConnectionError"}  # kinds of errors


def with_errors(address: str, function: Callable, *arguments: object) -> Any:
    """`function(*arguments)`, tried again after a lost connection; whatever fails is a RemoteError in the end."""
    for pause in (*PAUSES, None):
        try:
            return function(*arguments)
        except RemoteError:
            raise
        except Exception as error:
            found = [error, *_causes(error)]
            if pause is None or not _transient(found):
                raise RemoteError(next(filter(None, (_explained(e) for e in found)), _told(error, address))) from None
        time.sleep(pause)


def _causes(error: BaseException) -> list[BaseException]:
    cause = error.__cause__ or error.__context__
    return [] if cause is None else [cause, *_causes(cause)]


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _transient(errors: Sequence[BaseException]) -> bool:
    """Whether it may go better a moment later: a connection that was lost, a server that is busy."""
    if any("ClientConnectorError" in _names(error) for error in errors):
        return False
    busy = any(getattr(error, "status", 0) in (429, 500, 502, 503, 504) for error in errors)
    return busy or any(LOST & _names(error) for error in errors)


def _explained(error: BaseException) -> str | None:
    """What a user can do about an error of aiohttp, fsspec or the system; None for one that says nothing by itself."""
    names, status = _names(error), getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        refused = "access is refused (HTTP {}); check the address and the credentials that fsspec finds"
        missing = "there is no such file (HTTP {}); check the address"
        texts = {401: refused, 403: refused, 407: refused, 404: missing, 410: missing}
        return texts.get(status, "the server answers HTTP {}; try again later").format(status)
    if {"ClientConnectorCertificateError", "ClientConnectorSSLError", "SSLError"} & names:
        return "there is no secure connection to the host; check its certificate and the address"
    if {"InvalidURL", "InvalidUrlClientError"} & names:
        return "it is no address of a file; check it"
    if "ConnectionTimeoutError" in names or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return f"the host does not answer within {CONNECT:g} s; check the address and the network"
    if "ServerTimeoutError" in names:
        return f"the host does not answer within {SILENCE:g} s; try again later"
    if "ClientConnectorError" in names:
        cause = getattr(error, "os_error", None)
        reason = getattr(cause, "strerror", None) or "no connection"
        if isinstance(cause, OSError) and (cause.errno or 0) > 0 and not isinstance(cause, socket.gaierror):
            reason = os.strerror(cause.errno or 0)  # without the address, which asyncio adds
        return f"the host cannot be reached ({reason}); check the address and the network"
    if {"NoCredentialsError", "PermissionError"} & names:
        return "access is refused; check the address and the credentials that fsspec finds"
    if LOST & names:
        return "the connection was lost while it was read; try again later"
    if getattr(error, "errno", None) == errno.ENOSPC:
        return f"there is no room left in {tempfile.gettempdir()}; make room, or set TMPDIR"
    return None


def _told(error: BaseException, address: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the address"
    if isinstance(error, TimeoutError):
        return "the host does not answer; try again later"
    return f"{cleaned(str(error), address) or type(error).__name__}; check the address"

"""A file for writers in C++ that abort where writing fails."""

import io
from pathlib import Path
from typing import Any


class PatientFile(io.RawIOBase):
    """A file whose errors of writing wait until it is closed, for writers in C++ that abort where one is raised.

    torch.export.save calls `terminate` where a write fails; torch.save says where in its archive it stood.
    """

    def __init__(self, path: Path):
        self._file, self._error = path.open("wb"), None

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, as torch.export.save asks for."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def write(self, data: Any) -> int:
        """The number of bytes of `data`, written or not."""
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return size

    def close(self) -> None:
        """Close the file; raises the OSError of the first write that failed."""
        if not self.closed:
            super().close()
            try:
                self._file.close()
            except OSError as error:  # of what was still in memory
                self._error = self._error or error
        error, self._error = self._error, None
        if error is not None:
            raise error

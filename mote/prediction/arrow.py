"""pyarrow, or one line that says how to get it; the rest of the room imports it from here."""

from typing import Any

try:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet
except ImportError:
    raise ValueError("Parquet files need pyarrow: pip install 'mote-video[parquet]'") from None

pc: Any = pyarrow.compute  # its functions are made as it is imported, which no type checker sees
pq: Any = pyarrow.parquet  # whose stubs lack forms of arguments

__all__ = ["pa", "pc", "pq"]

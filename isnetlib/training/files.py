"""Writing files so that a kill at any moment leaves either the old file or the new one."""

import os
from pathlib import Path


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to `path`, making its folder, in one step. An OSError names the file."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")  # in the same folder: there alone a rename is atomic
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)

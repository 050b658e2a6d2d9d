"""Writing files so that a kill at any moment leaves either the old file or the new one."""

import contextlib
import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there nothing is locked
    fcntl = None


def write_atomically(path: str | Path, data: str | bytes | None) -> None:
    """Write text (UTF-8) or bytes to `path`, making its folder, whole or not at all; None: a try. OSError names it."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")  # in the same folder: there alone a rename is atomic
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data or b"")
            file.flush()
            os.fsync(file.fileno())
        if data is not None:
            part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # the folder may be a file
            part.unlink()


@contextlib.contextmanager
def locked(path: Path, wait: bool = True):
    """Nobody else is inside with the same path: others wait, or get a BlockingIOError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield

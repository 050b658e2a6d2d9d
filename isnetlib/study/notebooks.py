"""Notebooks as files: the parameters they declare, and running one in a process of its own."""

import ast
import base64
import difflib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import yaml

from isnetlib.study.config import StudyError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# The papermill command, ended when we are (then its input is closed), and without a grammar of addresses that
# jsonschema builds at import, for longer than all the rest takes.
PAPERMILL = """
import os, signal, sys, threading
threading.Thread(target=lambda: sys.stdin.read() or os.kill(os.getpid(), signal.SIGTERM), daemon=True).start()
sys.modules["rfc3987_syntax"] = None
from papermill.cli import papermill; papermill()
"""


def declared(notebook: Path) -> dict:
    """Names and default values of the notebook's parameters: the literals of its cell tagged "parameters".

    Raises ValueError where there is no such cell, or where one of its lines is not `name = literal`.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if not sources:
        raise ValueError(f"{notebook}: no code cell is tagged 'parameters'")
    found = {}
    for line in ast.parse("\n".join(sources)).body:
        try:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            found[target.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            message = f"{notebook}: the parameters cell holds only lines `name = literal`, not `{ast.unparse(line)}`"
            raise ValueError(message) from None
    return found


def check_parameters(name: str, known: dict, given: dict) -> None:
    """StudyError if `given` has a parameter that the notebook called `name` does not declare, or of another type.

    papermill itself ignores an unknown name, and the run would silently use the default. known: as `declared`.
    """
    for key, value in given.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise StudyError(f"{name} has no parameter '{key}'.{hint} It declares: {', '.join(sorted(known))}.")
        default = known[key]
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if default is not None and value is not None and not fits:
            kinds = f"{value!r} ({type(value).__name__}), but its default is {default!r} ({type(default).__name__})"
            raise StudyError(f"{name}: parameter '{key}' is {kinds}")


def execute(
    notebook: Path,
    output: Path,
    parameters: dict,
    threads: int,
    stop: threading.Event | None = None,
    kept_open: tuple[int, ...] = (),
) -> str | None:
    """Run a notebook with its own folder as working directory and keep it, outputs and error included, at `output`.

    A process for each notebook keeps memory, threads and kernels apart: whatever ends the process ends its kernel.
    `threads`: how many cores it may use. `stop`: when set, the notebook is ended early. `kept_open`: files that stay
    open, and locked, as long as the process.
    Returns None if all went well, else the error in one line.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)  # an old copy must not pass for this one
    encoded = base64.b64encode(yaml.safe_dump(parameters, allow_unicode=True).encode()).decode()
    # papermill fills the parameters into braces of a path
    paths = [path.replace("{", "{{").replace("}", "}}") for path in (notebook.name, relative(output, notebook.parent))]
    command = [sys.executable, "-c", PAPERMILL, *paths, "-b", encoded]
    command += ["--no-progress-bar", "--log-level", "ERROR", "--start-timeout", "180"]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with tempfile.TemporaryFile() as errors:
        # A session of its own, so that Ctrl-C reaches only us and we end it in order.
        process = subprocess.Popen(
            command, cwd=notebook.parent, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=errors, start_new_session=True, pass_fds=kept_open,
        )  # fmt: skip
        with process.stdin:
            if _stopped(process, stop or threading.Event()):
                return "interrupted"
        errors.seek(0)
        text = errors.read().decode(errors="replace").strip() or f"exit code {process.returncode}"
    return (_recorded_error(output) or text.splitlines()[-1]) if process.returncode else None


def relative(path: Path, start: Path) -> str:
    """`path` as seen from the folder `start`, with forward slashes; absolute where it is on another drive."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def _stopped(process: subprocess.Popen, stop: threading.Event) -> bool:
    """Wait for the process to end, or end it when `stop` is set; tells whether it was stopped."""
    while process.poll() is None:
        if stop.wait(0.1):
            process.terminate()  # papermill then shuts its kernel down
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()  # a kernel without its parent ends by itself
                process.wait()
            return True
    return False


def _recorded_error(output: Path) -> str | None:
    """The first error among a notebook's outputs, as `Name: message`, in one line; None where the file is damaged."""
    try:
        cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
        items = [item for cell in cells for item in cell.get("outputs", [])]
        errors = [f"{item['ename']}: {item['evalue']}" for item in items if item["output_type"] == "error"]
    except (OSError, ValueError, TypeError, KeyError):  # papermill writes in place, and the disk may be full
        return None
    return " ".join(errors[0].split()) if errors else None

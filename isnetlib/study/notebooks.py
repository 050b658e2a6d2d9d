"""Notebooks as files: the parameters they declare, and running one in a process of its own."""

import ast
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event

from isnetlib.study.config import StudyError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# Papermill, ended when its input is closed, as it is when we are ended, and without a grammar of addresses that
# jsonschema builds at import, for longer than all the rest takes.
PAPERMILL = """
import json, os, signal, sys, threading, time
def end_with_input():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)  # then papermill shuts its kernel down
    time.sleep(2)
    os._exit(1)  # a kernel without its parent ends by itself
threading.Thread(target=end_with_input, daemon=True).start()
sys.modules["rfc3987_syntax"] = None
import papermill
try:
    papermill.execute_notebook(*json.loads(sys.argv[1]), progress_bar=False, start_timeout=180)
except papermill.PapermillExecutionError as error:
    sys.exit(" ".join(f"{error.ename}: {error.evalue}".split()))
"""


def declared(notebook: Path) -> dict:
    """Names and default values of the notebook's parameters: the lines `name = literal` of its cell tagged
    "parameters". Raises StudyError.
    """
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(sources[0]).body}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, SyntaxError) as error:
        told = "absent or damaged, or has no cell tagged 'parameters' that holds lines `name = literal` alone"
        raise StudyError(f"the notebook {notebook} is {told}: {error}") from None


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


def execute(notebook: Path, output: Path, parameters: dict, threads: int, stop: Event | None = None) -> str | None:
    """Run a notebook in its own folder, on `threads` cores, and keep it, outputs and error included, at `output`. It is
    a process of its own, which ends early when `stop` is set. Returns None if all went well, else the error in a line.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)  # an old copy must not pass for this one
    given = [notebook.name, relative(output, notebook.parent), parameters]
    command = [sys.executable, "-c", PAPERMILL, json.dumps(given)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryFile() as errors:
        # A session of its own, so that Ctrl-C reaches only us and we end it in order.
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": errors}
        process = subprocess.Popen(command, cwd=notebook.parent, env=environment, start_new_session=True, **streams)
        with process:  # in the end its input is closed
            while process.poll() is None and not (stop and stop.is_set()):
                time.sleep(0.1)
        errors.seek(0)
        told = errors.read().decode(errors="replace").strip() or f"exit code {process.returncode}"
    return f"{notebook.stem}: {told.splitlines()[-1]} (see {output})" if process.returncode else None


def relative(path: Path, start: Path) -> str:
    """`path` as seen from the folder `start`, with forward slashes."""
    return Path(os.path.relpath(path, start)).as_posix()

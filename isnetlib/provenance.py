"""Where a run comes from: its manifest, and the hash of the sources that made it.

The hash answers one question: would the same run, made now, be another one? So it covers the code that trains and
tests (what `train`, `evaluate` and the run's two notebooks import, directly or not, plus the run's own method and data)
as syntax trees: comments, docstrings and formatting do not count, and neither do plots, statistics and the runner.
"""

import ast
import copy
import datetime
import functools
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from isnetlib.files import write_atomically
from isnetlib.notebooks import code_cells, parsed

PACKAGE = Path(__file__).parent
HERE = Path(".")  # notebooks run in their own folder
RUN_NOTEBOOKS = ("10_train", "20_external_test")
NEVER = {
    *("runs", "stats", "tables", "names", "findings", "overview"),  # read what runs left
    *("figures", "search_figure", "heatmaps", "readme", "report"),
    *("study", "search", "runner", "notebooks", "provenance", "files", "__main__"),  # start runs and keep their files
}
REGISTRIES = {"EXPERIMENTS", "METHODS"}  # name -> function: of these a run is made by its own entry alone
remembered = functools.lru_cache(maxsize=1024)  # of a syntax tree, which stays the same object while its text does
_parsed = remembered(parsed)


def begin(folder: Path, parameters: dict, data_hashes: dict, notebooks: Path = HERE, package: Path = PACKAGE) -> dict:
    """Write the manifest.json of a run that starts; of one that goes on, make sure that it is still the same run.

    The arguments are those of `manifest`. Raises ValueError if the folder holds a run of other parameters or code, or
    on other data.
    """
    path, now = Path(folder) / "manifest.json", manifest(parameters, data_hashes, notebooks, package)
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=1) + "\n")
        return now
    then = json.loads(path.read_text(encoding="utf-8"))
    reason = difference(then, json.loads(json.dumps(now)))
    if reason:
        raise ValueError(f"{folder} holds another run ({reason}): remove it to train afresh")
    return then


def difference(then: dict, now: dict) -> str:
    """Why the run of manifest `then` is not that of `now`, in words; "" if it is. What `now` does not have passes."""
    for part, label in (("parameters", "parameter"), ("data", "data")):
        old, new = then[part], now.get(part, then[part])
        for name in sorted(old.keys() | new.keys()):
            absent = part == "data" and name not in new  # data that are not here cannot have changed
            if not absent and (name not in old or name not in new or old[name] != new[name]):
                return f"{label} {name} was {old.get(name, 'absent')!r}, is {new.get(name, 'absent')!r}"
    return "the sources changed" if now.get("made_by", then["made_by"]) != then["made_by"] else ""


def manifest(parameters: dict, data_hashes: dict, notebooks: Path = HERE, package: Path = PACKAGE) -> dict:
    """What a run's manifest.json holds: enough to repeat the run and to tell whether it is stale.

    `parameters`: all parameters of 10_train, resolved; "experiment" and "method" are needed. `data_hashes`: what data
    -> sha256. `notebooks`: folder of the run's notebooks. Names no host and no path of this machine.
    """
    import torch  # only here: who reads manifests needs no torch for that

    device = parameters.get("device", "cpu")
    return {
        "parameters": portable(parameters),
        "made_by": made_by(parameters["experiment"], built(parameters), notebooks, package),
        "data": dict(data_hashes),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "torchvision", "numpy", "isnetlib")},
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "git": git_state(package),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def built(parameters: dict) -> str:
    """The method that a run builds: `base`, where the run's method is a name for it with other options."""
    return parameters.get("base") or parameters["method"]


def _version(name: str) -> str | None:
    """Version of an installed package; None if it is used from its folder without installation."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def portable(parameters: dict) -> dict:
    """Parameters as the manifest keeps them: without `results` and `study`, and of an absolute path only the last part.

    Where files lie is no part of a run; what is in them is told by the data hashes.
    """

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        absolute = isinstance(value, str | Path) and (os.path.isabs(value) or str(value).startswith("~"))
        return Path(value).name if absolute else value

    return clean({name: value for name, value in parameters.items() if name not in ("results", "study")})


def git_state(package: Path = PACKAGE) -> dict | None:
    """{"commit", "dirty"} of the clone that holds the package; None outside a clone or where git is missing.

    Dirty: something in the package or the notebooks differs from the commit. Results do not count.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", package.parent, *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie inside somebody else's clone: then the package is not among its files.
    if git("ls-files", "--error-unmatch", f"{package.name}/__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return commit and {"commit": commit, "dirty": bool(git("status", "--porcelain", package.name, "notebooks"))}


def made_by(experiment: str, method: str, notebooks: Path, package: Path = PACKAGE) -> str:
    """sha256 (hex) of the sources that make a run of `method` on `experiment`; its parameters are not among them."""
    trees = sources(experiment, method, notebooks, package)
    plain = ", ".join(f"{json.dumps(name)}: {_plain_text(tree)}" for name, tree in sorted(trees.items()))
    return hashlib.sha256(f"{{{plain}}}".encode()).hexdigest()


def sources(experiment: str, method: str, notebooks: Path, package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Name -> syntax tree of the two notebooks and of every module of the package that makes the run."""
    trees = {name: _notebook_tree(notebooks / f"{name}.ipynb") for name in RUN_NOTEBOOKS}
    roots = [f"{package.name}.{part}" for part in ("train", "evaluate", "baselines", "data")]
    todo = [root for root in roots if _file(root, package)]
    todo += [module for tree in trees.values() for module in _imported(tree, "", package)]
    while todo:
        module = todo.pop()
        if module not in trees and NEVER.isdisjoint(module.split(".")[1:2]):
            trees[module] = _keep_entries(_module_tree(module, package), {experiment, method})
            todo += _imported(trees[module], module, package)
    return trees


def _notebook_tree(notebook: Path) -> ast.Module:
    """The notebook's code. The parameters of 10_train are left out: their values are in the manifest."""
    skip = "parameters" if notebook.stem == RUN_NOTEBOOKS[0] else None
    return _parsed("\n".join(source for source, tags in code_cells(notebook) if skip not in tags))


def _module_tree(module: str, package: Path) -> ast.Module:
    return _parsed(_file(module, package).read_text(encoding="utf-8"))


def _file(module: str, package: Path) -> Path | None:
    """The file of a module of the package, None if there is none."""
    path = package.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def _keep_entries(tree: ast.Module, wanted: set[str]) -> ast.Module:
    """Cut registries down to the run's own entry, so that a new method or data set makes no other run stale. `tree`
    itself stays whole.
    """
    if not any(map(_is_registry, tree.body)):
        return tree
    return ast.Module([_own_entries(node, wanted) if _is_registry(node) else node for node in tree.body], [])


def _own_entries(registry: ast.stmt, wanted: set[str]) -> ast.stmt:
    """A copy of the registry with the entries that are wanted; with all, where none is."""
    entries = list(zip(registry.value.keys, registry.value.values, strict=True))
    own = [(key, value) for key, value in entries if getattr(key, "value", None) in wanted]
    cut = copy.copy(registry)
    cut.value = ast.Dict(*map(list, zip(*(own or entries), strict=True)))
    return cut


def _is_registry(node: ast.stmt) -> bool:
    names = [getattr(target, "id", None) for target in getattr(node, "targets", [getattr(node, "target", None)])]
    return not REGISTRIES.isdisjoint(names) and isinstance(node.value, ast.Dict)


@remembered
def _used_names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@remembered
def _attributes(tree: ast.AST) -> set[tuple[str | None, str]]:
    """(name, attribute) of every `name.attribute`."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {(getattr(node.value, "id", None), node.attr) for node in found}


def _bound(alias: ast.alias) -> str:
    """The name that an import gives to what it imports."""
    return alias.asname or alias.name.split(".")[0]


@remembered
def _imports(tree: ast.Module, module: str, package: Path) -> list[tuple[str, str, str | None]]:
    """(bound name, module, name in it or None) of every import from the package itself."""
    is_package, own = module and _file(module, package).name == "__init__.py", []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(_bound(alias), alias.name if alias.asname else _bound(alias), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            found = [(_bound(alias), source, alias.name) for alias in node.names]
        else:
            continue
        own += [entry for entry in found if entry[1].split(".")[0] == package.name]
    return own


def _imported(tree: ast.Module, module: str, package: Path) -> set[str]:
    """Modules of the package that the tree imports and uses; a re-export, which nothing uses, does not count."""
    used, modules = _used_names(tree), set()
    for bound, source, name in _imports(tree, module, package):
        if name is None and bound in used:
            modules |= {_home(source, attribute, package) for owner, attribute in _attributes(tree) if owner == bound}
        elif bound in used or name == "*":
            modules.add(_home(source, name, package))
    return modules


def _home(module: str, name: str, package: Path) -> str:
    """The module that `name`, imported from `module`, really comes from: re-exports are followed."""
    if _file(f"{module}.{name}", package):
        return f"{module}.{name}"
    for bound, source, original in _imports(_module_tree(module, package), module, package):
        if bound == name and original is not None:
            return _home(source, original, package)
    return module


@remembered
def _plain_text(tree: ast.Module) -> str:
    return json.dumps(_plain(tree, _used_names(tree)))


def _plain(node, used: set[str]):
    """A syntax tree as nested lists, the same in every version of Python: no positions, no empty fields."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12.0 and .1 add empty pieces
        node = ast.JoinedStr([piece for piece in node.values if getattr(piece, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return [type(node).__name__, *([name, _plain(value, used)] for name, value in fields if name != "kind")]
    if isinstance(node, list):
        return [_plain(item, used) for item in node if not _does_nothing(item, used)]
    return repr(node)


def _does_nothing(node, used: set[str]) -> bool:
    """Docstrings and other bare strings, and imports of what nothing uses."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.alias):
        return _bound(node) not in used and node.name != "*"
    return isinstance(node, ast.Import | ast.ImportFrom) and all(_does_nothing(alias, used) for alias in node.names)

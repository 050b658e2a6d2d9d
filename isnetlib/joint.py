"""results/report.html: the published studies together, from their tables and the state of their runs.

It holds the claim of the papers as one table, says what each study has of its runs, and shows the way from a number
to what made it. Everything else is in the studies' own reports, which it links to.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from isnetlib import (
    beside_claims,
    claims,
    comparison_figures,
    comparison_findings,
    constants_findings,
    figures,
    findings,
    frozen,
    names,
    overview,
    pages,
    relevance_findings,
    report_parts,
    search_findings,
    tables,
    wording,
)
from isnetlib.files import write_atomically
from isnetlib.report import NEEDED
from isnetlib.study import STATES

FIGURE = "claim"  # results/figures/claim.pdf and .png
COMMAND = "isnet report"
BLOCK = [*claims.KEYS, "kind", "metric"]  # of what comparisons are told together
CONTENTS = (
    ("short", "In short"),
    ("question", "The question"),
    ("method", "The method and its rivals"),
    ("data", "What is real, and what is simulated"),
    ("claim", "The claim, comparison by comparison"),
    ("scores", "Every method on these test sets"),
    ("rivals", "Rivals that do as well or better"),
    ("others", "What else was asked"),
    ("studies", "The studies and their runs"),
    ("limits", "Limits"),
    ("tour", "From a number to what made it"),
    ("licence", "Licence and patents"),
)


def write(results: Path, states: pd.DataFrame) -> Path:
    """Write results/report.html, and its figure where a comparison was made; returns the path. See `build`."""
    rows = claims.claim(read(results, states))
    if len(claims.made(rows)):
        figures.save(comparison_figures.claim_figure(rows), Path(results) / "figures" / FIGURE)
    path = Path(results) / "report.html"
    write_atomically(path, build(results, states))
    return path


def build(results: Path, states: pd.DataFrame) -> str:
    """The joint report as one HTML text.

    states: study, experiment, method, seed, state and reason of every run of the studies to report on, as
    `study.status` gives them. FileNotFoundError where none of them has tables.
    """
    return pages.render("joint.html.j2", context(Path(results), read(results, states), states))


def read(results: Path, states: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of each study of `states` that has those of a report, in the order of a report."""
    found = {}
    for study in _planned(states):
        if all((Path(results) / study / "tables" / f"{name}.csv").exists() for name in NEEDED):
            found[study] = tables.read(Path(results) / study)
    if not found:
        raise FileNotFoundError(f"{results}: no study has tables; make them by: {COMMAND}")
    return found


def context(results: Path, studies: dict[str, dict[str, pd.DataFrame]], states: pd.DataFrame) -> dict:
    """Everything the template shows."""
    rows = claims.claim(studies)
    judged = {(row.study, row.experiment): studies[row.study] for row in rows.itertuples()}
    rivals, scores = [level(*key, frames) for key, frames in judged.items()], claims.scores(rows, studies)
    searches = {study: frames["search"] for study, frames in studies.items() if "search" in frames}
    ranges = [path for study in studies if (path := results / study / "range_trials.csv").exists()]
    alt = f"Advantage of {names.method_name(names.PRIMARY_METHOD)} with intervals. {claims.title(rows)}."
    return {
        "contents": CONTENTS,
        "primary": names.PRIMARY_METHOD,
        "rivals_named": names.in_order(names.RIVALS, names.METHOD_NAMES),
        "methods": {name: wording.method_sentence(name) for name, _ in scores["lines"]},
        "sentences": list(beside_claims.conclusion(studies)),
        "absent": claims.absent(rows, states),
        "claim": [(key, trained(own), compared(own)) for key, own in rows.groupby(BLOCK, sort=False)],
        "figure": pages.picture(results / "figures", FIGURE, alt, COMMAND),
        "scores": scores,
        "fewer": claims.FEWER_SENTENCE,
        "upper_bound": wording.UPPER_BOUND_SENTENCES,
        "upper_bounds": names.UPPER_BOUNDS,
        "rivals": rivals,
        "reasons": {name: wording.WHY[name] for name in wording.WHY if any(name in one["methods"] for one in rivals)},
        "search_effort": search_findings.effort_sentence(list(searches.values())),
        "search_ranges": search_findings.range_sentence([pd.read_csv(path) for path in ranges]),
        "search_files": [path.relative_to(results).as_posix() for path in ranges],
        "changed": (changed := _changed(results, studies)),
        "changed_primary": (own := _changed(results, studies, names.PRIMARY_METHOD)),
        "changed_others": [one for one in changed if one not in own],
        "later": [name for name in names.ADDED_LATER if name in set(rows["experiment"])],
        "unrecorded": _unrecorded(results, studies, rows),
        "untouched": report_parts.untouched([results / study for study in studies], list(names.RIVALS)),
        "search_ends": [
            f"Study {study}: {told}"
            for study, frame in searches.items()
            for told in search_findings.edge_sentences(frame)
        ],
        "paths": [
            told for frames in studies.values() for told in constants_findings.limit_sentences(frames.get("constants"))
        ],
        "without": [study for study in _planned(states) if study not in studies],
        "others": [other(study, frames, judged) for study, frames in studies.items()],
        "experiments": data(studies),
        "studies": [status(results, study, studies.get(study), states) for study in _planned(states)],
        "tour": tour(studies, rows),
        "cost_link": next((f"{study}/report.html#cost" for study, frames in studies.items() if "cost" in frames), None),
    }


def _changed(results: Path, studies: Iterable[str], method: str = "") -> list[tuple[str, str]]:
    """(experiment, file that says so) where settings, of `method` if given, were changed after tests were looked at."""
    return [(name, f"{study}/frozen.csv") for study in studies for name in frozen.changed(results / study, method)]


def _unrecorded(results: Path, studies: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """The experiments of the claim of which no file says that their settings were fixed before their tests."""
    known = {name for study in studies for name in frozen.rows(results / study)["experiment"]}
    return sorted(set(rows["experiment"]) - known)


def _planned(states: pd.DataFrame) -> list[str]:
    return names.in_order(states["study"], names.STUDY_SENTENCES)


def level(study: str, name: str, frames: dict[str, pd.DataFrame]) -> dict:
    """The rivals of an experiment that do as well as the primary method: their names, and sentences."""
    found = list(overview.level_rivals(frames["seeds"], frames["comparisons"], name))
    sentences = [*(sentence for _, sentence in found), *overview.label_sentences(frames, name)]
    told = {"methods": {method for method, _ in found} - {None}, "sentences": sentences}
    return {"study": study, "name": name, "kind": names.data_kind(name)} | told


def other(study: str, frames: dict[str, pd.DataFrame], judged: dict) -> dict:
    """What a study says of the experiments that hold no planned comparison."""
    left = [name for name in findings.experiments(frames["seeds"]) if (study, name) not in judged]
    told = []
    for name in left:
        found = list(findings.result_sentences(frames["seeds"], frames["comparisons"], name))
        hardest, comparisons = findings.hardest(frames["seeds"], name), frames["comparisons"]
        found += comparison_findings.difference_sentences(comparisons, name, hardest)
        found += comparison_findings.contrary_sentences(comparisons, name) if name in names.LIMITS else []
        found += relevance_findings.hole_sentences(frames["seeds"], name, frames.get("constants"))
        told.append((name, report_parts.seeds_each(frames["seeds"].query("experiment == @name")), found))
    changed = [method for method in findings.methods(frames["seeds"]) if method in wording.ABLATION_SENTENCES]
    about = {names.ABLATIONS[method]: wording.ABLATION_SENTENCES[method] for method in changed}
    return {"study": study, "asks": names.STUDY_SENTENCES.get(study, ""), "experiments": told, "about": about}


def trained(rows: pd.DataFrame) -> str:
    """On how many cases the comparisons of one test set rest, and on how many trainings a method."""
    own = claims.made(rows)
    if own.empty:
        return "none made"
    cases, times = claims.from_to(own["n"]), claims.trainings(rows)
    if (own["test"] == findings.OVER_CASES).all():
        return f"{cases} cases, each tested by one training of a method"
    return f"{cases} cases, {times} training{'' if times == '1' else 's'} a method"


def compared(rows: pd.DataFrame) -> list[dict]:
    """The comparisons of one test set, with their interval as text."""
    return [row | {"span": findings.span(row["low"], row["high"])} for row in rows.to_dict("records")]


def data(studies: dict[str, dict[str, pd.DataFrame]]) -> list[dict]:
    """An experiment each: what its images are, and by study its test sets with their cases."""
    found = {}
    for study, frames in studies.items():
        for name in findings.experiments(frames["tests"]):
            cases = frames["tests"].query("experiment == @name").set_index("test_set")["cases"]
            sets = findings.test_sets_of(cases.reset_index())
            told = ", ".join(f"{names.name_of_test_set(test_set)} ({cases[test_set]})" for test_set in sets)
            about = {"name": name, "kind": names.data_kind(name), "sentence": wording.data_sentence(name), "sets": []}
            about |= {"means": [(one, wording.TEST_SET_SENTENCES.get(one, "")) for one in sets]}
            found.setdefault(name, about)["sets"].append((study, told))
    return [found[name] for name in sorted(found)]


def status(results: Path, study: str, frames: dict[str, pd.DataFrame] | None, states: pd.DataFrame) -> dict:
    """What a study plans, has and lacks: a line an experiment with the runs in each state and those in the tables, why
    runs are stale, and its report as seen from results/, where it is there.
    """
    own = states[states["study"] == study]
    there = frames["runs"] if frames else pd.DataFrame({"experiment": []})
    lines = []
    for name, runs in own.groupby("experiment", sort=False):
        counts = {state: int((runs["state"] == state).sum()) for state in STATES}
        line = {"experiment": name, "methods": runs["method"].nunique()}
        lines.append(line | {"runs": len(runs), "tables": int((there["experiment"] == name).sum())} | counts)
    stale = own[own["state"] == "stale"]["reason"].value_counts(sort=False).sort_index()
    report = f"{study}/report.html"
    return {
        "study": study,
        "asks": names.STUDY_SENTENCES.get(study, ""),
        "lines": lines,
        "stale": list(stale.items()),
        "report": report if (results / report).exists() else None,
    }


def tour(studies: dict[str, dict[str, pd.DataFrame]], rows: pd.DataFrame) -> dict | None:
    """One comparison of the claim, followed to its lines in the tables and its run folders; None where none was made.

    Lines of a file are counted from 1, which is the head.
    """
    if claims.made(rows).empty:
        return None
    row = claims.made(rows).iloc[0].to_dict()
    frames, where = studies[row["study"]], {name: row[name] for name in ("experiment", "test_set", "metric")}
    pair, found = [names.PRIMARY_METHOD, row["b"]], {}
    for name in ("seeds", "metrics"):
        at = {method: _lines(frames[name], where | {"method": method}) for method in pair}
        found[name] = [(method, at[method]) for method in pair]
    runs = frames["runs"]
    own = runs[(runs["experiment"] == row["experiment"]) & runs["method"].isin(pair)]
    first = own[own["method"] == names.PRIMARY_METHOD].iloc[0]
    run = f"{first['experiment']}/{first['method']}/seed{first['seed']}"
    return row | {"line": int(row["line"]), "pair": pair, "folders": list(own["folder"]), "run": run} | found


def _lines(frame: pd.DataFrame, where: dict) -> list[int]:
    at = frame
    for column, value in where.items():
        at = at[at[column] == value]
    return [int(k) + 2 for k in at.index]

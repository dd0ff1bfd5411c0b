"""Keeps of runs what README and docs quote: accuracies, bits and rounds of their summaries, in six digits, and figures.

``python results/keep.py NAME RUN [RUN ...] [--figure NAME.svg ...]`` writes ``results/NAME``: one ``summary.json`` with
the configurations of all these runs, which are parts of one experiment (``--only``), and copies of their figures. With
``--add`` they come after those that are already kept there.
``tests/test_results.py`` checks what the docs say against it, ``results/tables.py`` prints tables from it.
"""

import argparse
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palaver import PalaverError
from palaver.experiments import chapter
from palaver.studies.results import Result, last_rounds, read_result

KEPT = re.compile(
    r"(test_)?(average|collective)_accuracy|test_(own|worst)_accuracy|bits\.(examples|indices|payload)"
    r"|(bits|rounds)_to_target|local_.*|own_share|kl|active_units|discriminator_accuracy"
    r"|test_subset_accuracy\..*|test_calibrated_(collective|subset)_accuracy.*"
)
"""Metrics that are kept; of those who all answer only the default rule, and no counts of packets."""
OF_ALL = re.compile(r"test_collective_accuracy\..*")
"""Kept as well where a part of the nodes answers too, to be compared with it."""
SAME = "experiment", "chapter", "scale", "version", "seeds", "overrides"
"""What all parts of a result must have in common."""


def rounded(value: Any) -> Any:
    """The same JSON value with six significant digits in every number that is not whole."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def kept_rows(result: Result) -> list[dict[str, Any]]:
    """The configurations of a run with the metrics that are kept, and the last round of each."""
    rows, last = [], last_rounds(result)
    for row in result.summary["rows"]:
        parts = any(name.startswith("test_subset_accuracy.") for name in row["metrics"])
        metrics = {
            name: metric
            for name, metric in row["metrics"].items()
            if KEPT.fullmatch(name) or (parts and OF_ALL.fullmatch(name))
        }
        about = {name: value for name, value in row.items() if name not in ("metrics", "timings")}
        rows.append(about | {"last_round": last.get(row["configuration"], 0), "metrics": metrics})
    return rows


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One summary of all parts.

    Raises:
        PalaverError: they are of different experiments, or two have the same configuration.

    """
    first, *others = parts
    for name in SAME:
        if any(other.get(name) != first.get(name) for other in others):
            raise PalaverError(f"the runs differ in {name}: give parts of one experiment under the same settings")
    rows = [row for part in parts for row in part["rows"]]
    names = [row["configuration"] for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise PalaverError(f"two of the runs have {min(twice)!r}: give each configuration once")
    return {**first, "commands": [command for part in parts for command in part["commands"]], "rows": rows}


def part(result: Result) -> dict[str, Any]:
    """What is kept of a run."""
    head = {name: result.summary[name] for name in (*SAME, "device", "target", "measure") if name in result.summary}
    return head | {"commands": [result.settings.get("command")], "rows": kept_rows(result)}


def main() -> None:
    """Reads the runs and writes what is kept of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the folder under results/")
    parser.add_argument("runs", type=Path, nargs="+", help="result folders")
    parser.add_argument("--figure", action="append", default=[], help="a file in the folder figures of one of the runs")
    parser.add_argument("--add", action="store_true", help="to the configurations that are kept under this name")
    given = parser.parse_args()
    folder = Path(__file__).parent / given.name
    try:
        kept = [json.loads((folder / "summary.json").read_text(encoding="utf-8"))] if given.add else []
        summary = rounded(together([*kept, *(part(read_result(run, chapter)) for run in given.runs)]))
    except (PalaverError, OSError) as error:
        parser.error(str(error))
    figures = {name: [run / "figures" / name for run in given.runs] for name in given.figure}
    for name, paths in figures.items():
        if not any(path.is_file() for path in paths):
            parser.error(f"no run has the figure {name}")
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in summary.pop("rows"))
    folder.mkdir(exist_ok=True)
    head = json.dumps(summary, ensure_ascii=False)
    (folder / "summary.json").write_text(f'{head[:-1]},\n "rows": [\n{rows}\n]}}\n', encoding="utf-8")
    for paths in figures.values():
        shutil.copy(next(path for path in paths if path.is_file()), folder)


if __name__ == "__main__":
    main()

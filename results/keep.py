"""Keeps of a run what README and docs quote: accuracies, bits and rounds of its summary, in six digits.

``python results/keep.py RUN NAME`` writes ``results/NAME/summary.json``; ``tests/test_results.py`` checks what the docs
say against it.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

KEPT = re.compile(
    r"(test_)?(average|collective)_accuracy|test_(own|worst)_accuracy|bits\.(examples|indices|payload)"
    r"|(bits|rounds)_to_target|local_.*|own_share"
)
"""Metrics that are kept; decisions by other rules and of subsets, and counts of packets, are not."""


def rounded(value: Any) -> Any:
    """The same JSON value with six significant digits in every number that is not whole."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Reads the run's summary and writes the one that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="its result folder")
    parser.add_argument("name", help="of the folder under results/")
    given = parser.parse_args()
    try:
        summary, settings = (json.loads((given.run / f"{name}.json").read_text()) for name in ("summary", "settings"))
    except (OSError, ValueError) as error:
        parser.error(f"{given.run} is no result folder of a finished run ({error}): give one")
    summary, command = rounded(summary), settings.get("command")
    for of_this_folder_alone in ("checksums", "timings"):
        summary.pop(of_this_folder_alone, None)
    for row in summary["rows"]:
        row["metrics"] = {name: metric for name, metric in row["metrics"].items() if KEPT.fullmatch(name)}
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in summary.pop("rows"))
    head = json.dumps(summary | {"command": command}, ensure_ascii=False)
    folder = Path(__file__).parent / given.name
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(f'{head[:-1]},\n "rows": [\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

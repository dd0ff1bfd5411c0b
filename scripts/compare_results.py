"""Compares the numbers of two result folders of the same experiment, for example by two checkouts of the code.

``python scripts/compare_results.py OLD NEW [--rename OLD=NEW ...]`` joins both ``metrics.parquet`` by configuration,
seed, round, node and metric, and prints for every configuration how many numbers are the same to the bit, the largest
relative difference, and what only one side has. ``--rename`` names a configuration or a metric that was renamed.
Wall-clock seconds are left out. Exit code 1 where numbers differ by more than ``--tolerance``, or one side lacks some.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl

KEYS = ["configuration", "seed", "round", "node", "metric"]
WALL_CLOCK = ("seconds",)


def read(folder: Path, renamed: dict[str, str]) -> pl.DataFrame:
    """The metrics of a result folder under their new names, without wall-clock times."""
    frame = pl.read_parquet(folder / "metrics.parquet").filter(~pl.col("metric").is_in(WALL_CLOCK))
    return frame.with_columns(pl.col("configuration", "metric").replace(renamed), pl.col("node").fill_null(-1))


def compare(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """One row a configuration: numbers on both sides, the same to the bit, largest difference, on one side only."""
    both = old.join(new, on=KEYS, how="full", coalesce=True, suffix="_new", maintain_order="left_right")
    a, b = pl.col("value"), pl.col("value_new")
    nan = a.is_nan() & b.is_nan()
    apart = (a - b).abs() / pl.max_horizontal(a.abs(), b.abs(), pl.lit(1e-12))
    apart = pl.when(nan | (a == b)).then(0.0).otherwise(apart)
    return both.group_by("configuration", maintain_order=True).agg(
        numbers=(a.is_not_null() & b.is_not_null()).sum(),
        same=((a == b) | nan).sum(),
        largest=apart.max(),
        at=pl.col("metric").sort_by(apart, descending=True, nulls_last=True).first(),
        only_old=b.is_null().sum(),
        only_new=a.is_null().sum(),
        missing=pl.col("metric").filter(a.is_null() | b.is_null()).unique(maintain_order=True).head(4),
    )


def main() -> int:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest relative difference (default: 0)")
    args = parser.parse_args()
    renamed = dict(pair.split("=", 1) for pair in args.rename)
    found = compare(read(args.old, renamed), read(args.new, {}))
    print(f"{'configuration':<52}{'numbers':>8}{'same':>8}  {'largest':>8}  of, or only on one side")
    for row in found.iter_rows(named=True):
        where = "" if not row["largest"] else row["at"]
        if row["only_old"] or row["only_new"]:
            where += f" only old {row['only_old']}, only new {row['only_new']}: {', '.join(row['missing'])}"
        largest = row["largest"] or 0.0
        print(f"{row['configuration']:<52}{row['numbers']:>8}{row['same']:>8}  {largest:>8.1e}  {where}".rstrip())
    alone = (found["only_old"] + found["only_new"]).sum() > 0
    fine = (found["largest"].fill_null(0) <= args.tolerance).all() and not alone
    totals = found.select("numbers", "same").sum().row(0)
    print(f"{totals[1]} of {totals[0]} numbers are the same to the bit; wall-clock seconds are left out")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

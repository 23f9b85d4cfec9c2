"""Train, look and write the table: `python -m benchmarks.taste [--out DIR] [--threads N]`.

Every run is kept in DIR/results, so that a call goes on where another stopped, and several may share a DIR. First each
setting of each objective with one seed, then the best setting of each with all seeds, on many and few pairs and on
wrong labels. With one thread a run takes about a minute and a half.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from dspo_train import files

from . import picture, plan, summary, writing
from .run import base_result, result_of


def main() -> None:
    parser = argparse.ArgumentParser(description="Which objective learns a known taste.")
    parser.add_argument("--out", type=Path, default=Path("taste"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write-only", action="store_true", help="write the table of the runs that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    base = base_result(out)
    if not arguments.write_only:
        first = list(_all(out, plan.settings_runs()))
        best = summary.best_settings(first, base)
        chosen = {r.key: r for r in plan.settings_runs() if best[(r.taste, r.objective)] == r.label}
        chosen |= {r.key: r for r in plan.default_runs()}
        list(_all(out, plan.seed_runs(chosen.values())))
        list(_all(out, plan.option_runs()))
    _write(out, base)


def _all(out: Path, runs: Iterable[plan.Run]) -> Iterable[dict[str, Any]]:
    for run in runs:
        result = result_of(out, run)
        last = summary.reward(result["looks"][-1], run.taste)
        say(f"{run.taste} {run.pairs} {run.flipped:g} seed {run.seed} {run.label}: {last:+.2f}")
        yield result


def _write(out: Path, base: dict[str, Any]) -> None:
    """table.md, table.csv and table.png of every run in the folder."""
    places = sorted(place for place in (out / "results").glob("*.json") if place.name != "base.json")
    results = [json.loads(place.read_text(encoding="utf-8")) for place in places]
    rows = summary.table(results, base)
    files.write_text(out / "table.md", writing.markdown(rows) + "\n")
    files.write_text(out / "table.csv", writing.csv_text(rows))
    best = summary.best_settings(results, base) | {(r.taste, r.objective): r.label for r in plan.default_runs()}
    shown = [r for r in results if _plain(r) and best.get((r["run"]["taste"], r["run"]["objective"])) == r["label"]]
    files.write_picture(out / "table.png", picture.draw(picture.panels(shown, base)))
    say(f"{len(results)} runs: {out / 'table.md'}, table.csv, table.png")


def _plain(result: dict[str, Any]) -> bool:
    return result["run"]["pairs"] == 400 and not result["run"]["flipped"]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

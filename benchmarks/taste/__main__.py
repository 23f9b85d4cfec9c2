"""Train, look and write the table: `python -m benchmarks.taste [--out DIR] [--threads N]`.

Every run is kept in DIR/results, so that a call goes on where another stopped, and several may share a DIR. First each
setting of each objective with one seed, then the best setting of each with all seeds, on many and few pairs and on
wrong labels, and what a run can do besides. With one thread a run takes one to five minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from dspo_train import files

from . import chart, plan, seed_by_seed, summary, writing
from .run import Result, base_result, read, results_of


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
        first = results_of(out, list(plan.settings_runs()), _told)
        best = summary.best_settings(first, base)
        results_of(out, plan.second_runs(best), _told)
    write(out, base)


def _told(run: plan.Run, result: Result) -> None:
    last = summary.reward(result["looks"][-1], run.taste)
    say(f"{run.taste} {run.pairs} {run.flipped:g} seed {run.seed} {run.label}: {last:+.2f}")


def write(out: Path, base: Result) -> None:
    """table.md, table.csv, looks.csv and table.png of every run in the folder."""
    places = sorted(place for place in (out / "results").glob("*.json") if place.name != "base.json")
    found = {place.stem: read(place) for place in places}
    results = [result for key, result in found.items() if plan.Run(**result["run"]).key == key]
    if len(results) < len(places):
        say(f"{len(places) - len(results)} runs left out: their settings are no longer those that their label means")
    rows = summary.table(results, base)
    files.write_text(out / "table.md", "\n".join([writing.markdown(rows), *_leads(results, base)]))
    files.write_text(out / "table.csv", writing.csv_text(rows))
    files.write_text(out / "looks.csv", writing.looks_csv(results))
    defaults = {(taste, "dspo"): plan.Run(taste, "dspo").label for taste in plan.TASTES}
    best = summary.best_settings(results, base) | defaults
    shown = [r for r in results if _plain(r) and best.get((r["run"]["taste"], r["run"]["objective"])) == r["label"]]
    files.write_image(out / "table.png", chart.draw(chart.curves(shown, base)))
    say(f"{len(results)} runs: {out / 'table.md'}, table.csv, looks.csv, table.png")


def _leads(results: list[Result], base: Result) -> Iterator[str]:
    """Tables of `dspo` against the others: with all seeds, and with those alone that no setting was chosen by."""
    fresh = [result for result in results if result["run"]["seed"] in plan.FRESH_SEEDS]
    for title, of in (("seed by seed", results), ("with the seeds that nothing was chosen by", fresh)):
        yield seed_by_seed.markdown(f"`dspo` at its default, {title}", seed_by_seed.leads(of, base, "dspo"))


def _plain(result: Result) -> bool:
    return result["run"]["pairs"] == 400 and not result["run"]["flipped"]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

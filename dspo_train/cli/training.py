"""`train`: settings from a file and the command line, a progress bar, a clean stop."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..config import TrainConfig, dotted, from_dict, nested, with_settings
from ..exceptions import ConfigError, RunError
from ..files.words import many
from ..models.blueprint import read_blueprint
from ..models.families import PREDICTION_NAMES
from ..pairs import scan_folder
from ..rounds.painting import DiffusersPainter
from ..runs import preflight
from ..runs.diffusers_model import DiffusersSource
from ..runs.folder import RunFolder
from ..runs.job import Job
from ..runs.machine import Machine, this_machine
from ..runs.memory import Setup
from ..runs.presets import of_own_steps
from ..runs.session import Session, Stage, encodings_of, open_session
from ..runs.sizes import BlueprintSizes
from ..training.devices import resolve_precision
from ..training.trainer import StepReport
from .main import INTERRUPTED, OK, in_words, say
from .rounds import in_rounds, rounds_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


FIXED = ("allow_empty_captions", "previews")  # not offered on the command line


def run(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config, arguments.objective, arguments.set)
    source = DiffusersSource(arguments.base, arguments.tokenizer, arguments.prediction)
    job = Job(
        model=source,
        pairs=arguments.pairs,
        out=arguments.out,
        config=config,
        refine=arguments.refine,
        cache=arguments.cache,
    )
    rounds = rounds_of(arguments, config)
    if rounds.count == 1 and RunFolder(job.out).completed(job.config.steps):
        return _session(job)
    job = replace(job, scan=scan_folder(job.pairs))
    machine = this_machine(job.config.device)
    setup = _check(job, source.path, machine)
    codes: list[int] = []
    painter = DiffusersPainter(
        config.data.resolution, arguments.draw_steps, arguments.draw_guidance, max(1, arguments.draw_batch)
    )

    def work() -> None:
        codes.append(_session(job) if rounds.count == 1 else in_rounds(job, rounds, painter))

    if preflight.ran_out_of_memory(work):
        raise RunError(preflight.too_large(setup, machine.total, job.config.accumulate, FIXED))
    return codes[0]


def _check(job: Job, base: Path, machine: Machine) -> Setup:
    """Refuse what cannot work, and warn of what may not: every process checks, the first prints. -> for `too_large`"""
    assert job.scan is not None
    precision = resolve_precision(job.config.precision, torch.device(machine.kind))
    config = replace(job.config, precision=precision)  # type: ignore[arg-type]
    sizes = BlueprintSizes(read_blueprint(base))
    setup = preflight.setup_of(sizes, config, refine=job.refine is not None, shared=machine.shared)
    notes = preflight.check_run(
        job.scan, config, setup, machine.total, out=job.out, cache=encodings_of(job), fixed=FIXED
    )
    for note in (*notes, *preflight.check_free(setup, machine.free, config.accumulate, FIXED)):
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"note: {in_words(note)}\n")
    return setup


def _session(job: Job) -> int:
    with open_session(job, Stages()) as session:
        if session.main:
            _announce(session)
        return _train(session)


def _announce(session: Session) -> None:
    scan, config = session.scan, session.job.config
    dropped = sum(defect.fatal for defect in scan.defects)
    faults = f", {many(dropped, 'defect')}" if dropped else ""
    if scan.unpaired:
        counted = f"{many(len(scan.liked), 'liked image')} and {len(scan.disliked)} disliked"
    else:
        counted = f"{many(len(scan.pairs), 'pair')}, {many(scan.ties, 'tie')} left out"
    model = session.model
    reads = PREDICTION_NAMES[model.process.prediction]
    say(f"{counted}{faults}; base {model.name} ({model.title}, {reads} prediction)")
    if session.finished:
        return
    if session.training.step:
        say(f"resuming from step {session.training.step} of {config.steps}")


def _train(session: Session) -> int:
    steps = session.job.config.steps
    if session.finished:
        say(f"already finished: {session.folder.result}")
        return OK
    with (
        _stop_requested() as stop,
        tqdm(total=steps, initial=session.training.step, unit="step", disable=not session.main) as bar,
        contextlib.closing(session.reports()) as reports,
    ):
        complete = True
        for report in reports:
            bar.set_postfix_str(summary(report), refresh=False)
            bar.update()
            complete = report.stopped or report.step == steps
            if stop and not complete:
                break
    step = session.training.step
    if not complete:
        say(f"stopped after step {step}; the same command resumes from here")
        return INTERRUPTED
    if session.main:
        say("\n".join(_results(session.folder, step, steps)))
    return OK


def _results(folder: RunFolder, step: int, steps: int) -> Iterator[str]:
    if step < steps:
        yield f"stopped early, after step {step} of {steps}: held-out pairs showed no more progress"
    yield f"LoRA:  {folder.result}"
    if folder.whole.exists():
        yield f"whole: {folder.whole}"
    yield f"curve: {folder.curve}"


def summary(report: StepReport) -> str:
    """The most useful figures; tqdm itself shows the time left."""
    return (
        f"loss {report.loss:.4g}, margin {report.margin:+.2e}, accuracy {report.accuracy:.0%}, "
        f"{report.pairs_per_second:.2g} pairs/s"
    )


class Stages:
    """A bar for each stage before the training, made when there is something to do."""

    def __init__(self) -> None:
        self._bars: dict[Stage, tqdm[Any]] = {}

    def __call__(self, stage: Stage, done: int, total: int) -> None:
        if stage not in self._bars:
            unit = "image" if stage == "check" else "pair"
            self._bars[stage] = tqdm(total=total, desc=stage, unit=unit, leave=False)
        bar = self._bars[stage]
        bar.update(done - bar.n)
        if done == total:
            bar.close()


@contextlib.contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM request a stop after the current step; a second Ctrl-C stops at once."""
    requests: list[int] = []

    def request(number: int, frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_config(file: Path | None, objective: str | None, settings: list[str]) -> TrainConfig:
    """Settings from the file, overridden by `--set`, then by `--objective`.

    Raises:
        ConfigError: the file is missing or not TOML, an argument has no `=`, or a setting is bad.
    """
    values: Mapping[str, Any] = {} if file is None else _read_toml(file)
    pairs = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, as in --set optim.lr=1e-4")
        pairs[key.strip()] = value.strip()
    values = with_settings(values, pairs)
    if objective is not None:
        values["objective"] = objective
    return from_dict(nested(of_own_steps(dotted(values)), values))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {file}: not valid TOML: {error}") from error

"""One training inside ComfyUI: its folders, its memory, its progress bar and its Cancel."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
from PIL import Image
from server import PromptServer

from ..dspo_train import files, preflight
from ..dspo_train.config import TrainConfig
from ..dspo_train.devices import resolve_precision
from ..dspo_train.exceptions import RunError
from ..dspo_train.memory import Names
from ..dspo_train.presets import Changes, configure
from ..dspo_train.previews import Previewer
from ..dspo_train.run_names import claim
from ..dspo_train.runs import RunFolder
from ..dspo_train.session import Job, Session, open_session
from ..dspo_train.single_file import SingleFile, open_single_file
from ..dspo_train.trainer import StepReport
from . import places, wired
from .sockets import PairSet

NAMES = Names("pairs_at_once", "accumulate", None, "resolution", "targets", "rank")  # of the node's inputs

SHOWN = ("step", "margin", "accuracy", "winner_change", "loser_change", "pairs_per_second")  # to an open page

log = logging.getLogger("dspo")


@dataclass(frozen=True)
class Order:
    """What the node was asked for; `settings` are its other widgets and sockets by their names."""

    ckpt_name: str
    pairs: PairSet
    name: str
    settings: Mapping[str, Any]
    node_id: str


@dataclass(frozen=True)
class Done:
    lora: dict[str, Any]
    name: str
    losses: list[float]
    curve: Image.Image


def train(order: Order) -> Done:
    """Train, go on with a stopped run, or find a finished one; call it outside inference mode.

    Raises:
        DspoError: what will not work, in plain words, before the device is touched.
    """
    file = open_single_file(places.checkpoint(order.ckpt_name))
    config = _config(order, file)
    folder = claim(places.runs(), order.name, _request(order, config))
    teller = Teller(order.node_id, folder.folder.name, config.steps)
    if not folder.completed(config.steps):
        for note in _preflight(order, config, file, folder):
            teller.note(note)
        _run(_job(order, config, folder), order, teller)
    return _done(folder)


def _config(order: Order, file: SingleFile) -> TrainConfig:
    """The widgets as settings; `auto` checkpointing depends on the device's whole memory, so that it stays the same."""
    given, device = dict(order.settings), mm.get_torch_device()
    changes = Changes(
        objective=given.get("objective", "dspo"),
        value=given.get("objective_value", 0.0),
        lr=given.get("learning_rate", 0.0),
        rank=given.get("rank", 0),
        targets=_unless(given.get("targets"), "from preset"),
        resolution=given.get("resolution", 0),
        batch_size=given.get("pairs_at_once", 1),
        accumulate=given.get("accumulate", 4),
        flip=given.get("flip", False),
        seed=given.get("training_seed", 0),
        save_every=given.get("save_every", 50),
        precision=resolve_precision(given.get("precision", "auto"), device),  # type: ignore[arg-type]
        device="cpu" if device.type == "cpu" else "auto",
    )
    config = configure(given["preset"].lower(), file.family, given["steps"], changes)
    asked = given.get("gradient_checkpointing", "auto")
    on = asked == "on" or (asked == "auto" and preflight.needs_checkpointing(file, config, _total_memory()))
    return replace(config, gradient_checkpointing=on)


def _unless(value: Any, default: str) -> Any:
    return None if value == default else value


def _request(order: Order, config: TrainConfig) -> dict[str, Any]:
    """All that settles what the run will be, known without loading a checkpoint."""
    settings = {key: value for key, value in config.to_dict().items() if key not in ("save_every", "keep_checkpoints")}
    model, refine = order.settings.get("model"), _refine(order)
    return {
        "settings": settings,
        "device": mm.get_torch_device().type,
        "checkpoint": [order.ckpt_name, *_stat(places.checkpoint(order.ckpt_name))],
        "model": None if model is None else wired.fingerprint(model),
        "refine": None if refine is None else [refine.name, *_stat(refine)],
        "pairs": [order.pairs.name, order.pairs.stamp, len(order.pairs.scan.pairs)],
    }


def _stat(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _refine(order: Order) -> Path | None:
    name = order.settings.get("refine_lora", places.NO_LORA)
    return None if name == places.NO_LORA else places.lora(name)


def _job(order: Order, config: TrainConfig, folder: RunFolder) -> Job:
    model = order.settings.get("model")
    return Job(
        base=places.checkpoint(order.ckpt_name),
        pairs=order.pairs.scan.folder,
        out=folder.folder,
        config=config,
        refine=_refine(order),
        tokenizer=places.tokenizer(),
        cache=places.encodings(),
        unet=None if model is None else partial(wired.copy, model),
        scan=order.pairs.scan,
    )


def _preflight(order: Order, config: TrainConfig, file: SingleFile, folder: RunFolder) -> list[str]:
    """Refuse what cannot work; -> what may not"""
    scan = order.pairs.scan
    notes = preflight.check_pairs(scan, config) + preflight.check_memory(file, config, _total_memory(), NAMES)
    preflight.check_disk(folder.folder, places.encodings(), scan, file.family, config)
    return notes


def _total_memory() -> int:
    return int(mm.get_total_memory(mm.get_torch_device()))


def _run(job: Job, order: Order, teller: Teller) -> None:
    out_of_memory = False
    with _device_to_ourselves():
        for note in _free_memory(job):
            teller.note(note)
        try:
            with open_session(job, teller.encoding) as session:
                _steps(session, order, teller)
        except (mm.OOM_EXCEPTION, MemoryError):
            log.exception("out of memory")
            out_of_memory = True
    if out_of_memory:  # raised here, where no frame holds the tensors any more
        raise RunError(preflight.too_large(open_single_file(job.base), job.config, _total_memory(), NAMES))


def _free_memory(job: Job) -> list[str]:
    """Other programs use the device too; ComfyUI itself has left it."""
    return preflight.check_free(open_single_file(job.base), job.config, int(mm.get_free_memory(mm.get_torch_device())))


def _steps(session: Session, order: Order, teller: Teller) -> None:
    if session.finished:
        return
    every, total = order.settings["preview_every"], session.job.config.steps
    previewer = None
    if every:
        prompt = order.settings["preview_prompt"].strip() or session.scan.pairs[0].prompt
        previewer = Previewer(session, prompt, session.job.config.seed, teller.check_cancel)
    with contextlib.closing(session.reports()) as reports:
        for report in reports:
            wanted = previewer is not None and (report.step % every == 0 or report.step == total)
            teller.step(report, previewer.draw() if previewer is not None and wanted else None)


@contextlib.contextmanager
def _device_to_ourselves() -> Iterator[None]:
    """ComfyUI's models leave the device first; afterwards what we used is given back."""
    mm.unload_all_models()
    mm.soft_empty_cache()
    try:
        yield
    finally:
        gc.collect()
        mm.soft_empty_cache()


def _done(folder: RunFolder) -> Done:
    """Put the result where ComfyUI lists it, and say so to the page."""
    name, path = places.new_lora(folder.folder.name)
    if not path.exists():
        files.write_bytes(path, folder.result.read_bytes())
    PromptServer.instance.send_sync("dspo.lora_saved", {"name": name})
    losses = [report["loss"] for report in folder.reports()]
    with Image.open(folder.curve) as picture:
        curve = picture.convert("RGB")
    return Done(comfy.utils.load_torch_file(str(path), safe_load=True), name, losses, curve)


class Teller:
    """Tells the page how far we are, and hears of Cancel: each call raises core's exception for it."""

    def __init__(self, node_id: str, run: str, steps: int) -> None:
        self.node_id, self.run, self.steps = node_id, run, steps
        self.bar: comfy.utils.ProgressBar | None = None
        self.notes: list[str] = []
        self.pace: float | None = None  # seconds a step, smoothed

    def note(self, text: str) -> None:
        log.warning(text)
        self.notes.append(f"Note: {text}")

    def encoding(self, stage: str, done: int, total: int) -> None:
        self._show(f"Encoding pictures: {done} of {total} pairs", done, total)

    def check_cancel(self, done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()

    def step(self, report: StepReport, preview: Image.Image | None) -> None:
        """One line of text and one event; a preview where there is one."""
        self.pace = report.seconds if self.pace is None else 0.9 * self.pace + 0.1 * report.seconds
        left = self.pace * (self.steps - report.step)
        line = (
            f"Step {report.step} of {self.steps} · margin {report.margin:+.2e} · accuracy {report.accuracy:.0%} · "
            f"{report.pairs_per_second:.2g} pairs/s · {_clock(left)} left"
        )
        shown = {name: getattr(report, name) for name in SHOWN}
        self._send("run", {"node": self.node_id, "steps": self.steps, "seconds_left": left, **shown})
        if preview is not None:
            self._send("preview", {"file": f"step-{report.step:06d}.png"})
        self._show(line, report.step, self.steps, preview)

    def _send(self, event: str, values: dict[str, Any]) -> None:
        PromptServer.instance.send_sync(f"dspo.{event}", {"run": self.run, **values})

    def _show(self, line: str, done: int, total: int, preview: Image.Image | None = None) -> None:
        if self.bar is None or self.bar.total != total:
            self.bar = comfy.utils.ProgressBar(total, node_id=self.node_id)
        PromptServer.instance.send_progress_text("\n".join([line, *self.notes]), self.node_id)
        self.bar.update_absolute(done, total, None if preview is None else ("JPEG", preview, None))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

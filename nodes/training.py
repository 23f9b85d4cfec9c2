"""One training inside ComfyUI: folders, memory, progress and Cancel."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management as mm
import comfy.utils
from PIL import Image
from server import PromptServer

from ..dspo_train import files
from ..dspo_train.config import TrainConfig
from ..dspo_train.config.forms import read_form
from ..dspo_train.exceptions import RunError
from ..dspo_train.models.blueprint import of_file
from ..dspo_train.models.families import Family
from ..dspo_train.models.single_file import open_single_file
from ..dspo_train.pairs import Scan
from ..dspo_train.pairs.discover import pairs_stamp
from ..dspo_train.runs import preflight
from ..dspo_train.runs.folder import FREE_SETTINGS, RunFolder
from ..dspo_train.runs.installed import refuse_old_packages
from ..dspo_train.runs.job import Job
from ..dspo_train.runs.machine import Machine, host_memory, shares_memory
from ..dspo_train.runs.memory import Setup
from ..dspo_train.runs.names import claim, find_run
from ..dspo_train.runs.presets import OWN_NUMBER, configure
from ..dspo_train.runs.previews import Previewer
from ..dspo_train.runs.results import write_curve
from ..dspo_train.runs.session import Session, open_session
from ..dspo_train.training.devices import resolve_precision
from . import places, wired
from .progress import Progress
from .sockets import PairSet

FIXED = ("optim.name",)  # settings without an input on the node

T = TypeVar("T")

log = logging.getLogger("dspo")


@dataclass(frozen=True)
class Order:
    """The node's inputs; `settings` are its other widgets and sockets by name."""

    ckpt_name: str
    pairs: PairSet
    name: str
    settings: Mapping[str, Any]
    node_id: str


@dataclass(frozen=True)
class Plan:
    """What an order amounts to with this checkpoint on this device.

    Attributes:
        setup: what the run's memory depends on, previews included.
        refine: the file of the LoRA to start from.
    """

    order: Order
    config: TrainConfig
    setup: Setup
    refine: Path | None

    @property
    def scan(self) -> Scan:
        return self.order.pairs.scan


@dataclass(frozen=True)
class Done:
    lora: dict[str, Any]
    name: str
    losses: list[float]
    curve: Image.Image


def train(order: Order) -> Done:
    """Train, resume a stopped run, or find a finished one; call it outside inference mode.

    Raises:
        DspoError: the run cannot work; raised, as far as possible, before the device is touched.
    """
    refuse_old_packages(places.REQUIREMENTS)
    plan = _plan(order)
    request = _request(plan)
    folder = find_run(places.runs(), order.name, request)
    if folder is None or not folder.completed(plan.config.steps):
        notes = _preflight(plan)
        folder = folder or claim(places.runs(), order.name, request, places.lora_folder())
        progress = Progress(order.node_id, folder.folder.name, plan.config.steps, plan.scan.noun)
        for note in notes:
            progress.note(note)
        _run(plan, folder, progress)
    return _done(folder)


def _plan(order: Order) -> Plan:
    """`auto` checkpointing depends on the device's total memory, not on what is free, so that it is reproducible."""
    file, refine = open_single_file(places.checkpoint(order.ckpt_name)), _refine(order)
    config, machine = _config(order.settings, file.family), _machine()
    previews = order.settings["preview_every"] > 0
    setup = preflight.setup_of(
        of_file(file), config, refine=refine is not None, previews=previews, shared=machine.shared
    )
    asked = order.settings.get("gradient_checkpointing", "auto")
    on = asked == "on" or (asked == "auto" and preflight.needs_checkpointing(setup, machine.total))
    return Plan(order, replace(config, gradient_checkpointing=on), replace(setup, checkpointing=on), refine)


def _config(given: Mapping[str, Any], family: Family) -> TrainConfig:
    device, options = mm.get_torch_device(), given.get("options")
    changes = {**read_form("train", given), **({} if options is None else options.values)}
    changes["precision"] = resolve_precision(changes.get("precision", "auto"), device)
    changes["device"] = "cpu" if device.type == "cpu" else "auto"
    return configure(given["preset"].lower(), family, changes, given.get(OWN_NUMBER, 0.0))


def _request(plan: Plan) -> dict[str, Any]:
    """Everything that determines the run, known without loading a checkpoint."""
    settings = {key: value for key, value in plan.config.to_dict().items() if key not in FREE_SETTINGS}
    order, model = plan.order, plan.order.settings.get("model")
    return {
        "settings": settings,
        "device": mm.get_torch_device().type,
        "checkpoint": [order.ckpt_name, *places.stamp(places.checkpoint(order.ckpt_name))],
        "model": None if model is None else wired.fingerprint(model),
        "refine": None if plan.refine is None else [plan.refine.name, *places.stamp(plan.refine)],
        "pairs": [order.pairs.name, pairs_stamp(plan.scan)],
    }


def _refine(order: Order) -> Path | None:
    name = order.settings.get("refine_lora", places.NO_LORA)
    return None if name == places.NO_LORA else places.lora(name)


def _job(plan: Plan, folder: RunFolder) -> Job:
    model = plan.order.settings.get("model")
    return Job(
        base=places.checkpoint(plan.order.ckpt_name),
        pairs=plan.scan.folder,
        out=folder.folder,
        config=plan.config,
        refine=plan.refine,
        cache=places.encodings(),
        unet=None if model is None else partial(wired.copy, model),
        scan=plan.scan,
    )


def _preflight(plan: Plan) -> list[str]:
    """Refuse what cannot work; return warnings about what may not."""
    return preflight.check_run(
        plan.scan,
        plan.config,
        plan.setup,
        _machine().total,
        out=places.runs(),
        cache=places.encodings(),
        fixed=FIXED,
    )


def _machine() -> Machine:
    """ComfyUI's device; on the host by our own count, because core ignores a container's limit."""
    device = mm.get_torch_device()
    if shares_memory(device.type):
        return Machine(device.type, *host_memory())
    return Machine(device.type, int(mm.get_total_memory(device)), int(mm.get_free_memory(device)))


def _run(plan: Plan, folder: RunFolder, progress: Progress) -> None:
    def work() -> None:
        with open_session(_job(plan, folder), progress.stage) as session:
            _steps(session, plan.order, progress)

    with _device_to_ourselves():
        for note in preflight.check_free(plan.setup, _machine().free):
            progress.note(note)
        out_of_memory = preflight.ran_out_of_memory(work)
    if out_of_memory:
        raise RunError(preflight.too_large(plan.setup, _machine().total, plan.config.accumulate, FIXED))


def _steps(session: Session, order: Order, progress: Progress) -> None:
    if session.finished:
        return
    every, total = order.settings["preview_every"], session.job.config.steps
    previews = _Previews(session, order, progress) if every else None
    with contextlib.closing(session.reports()) as reports:
        for report in reports:
            wanted = previews is not None and (report.step % every == 0 or report.step == total or report.stopped)
            progress.step(report, previews.draw() if previews is not None and wanted else None, session.notes.texts)


class _Previews:
    """Previews for as long as there is memory for them; training continues without."""

    def __init__(self, session: Session, order: Order, progress: Progress) -> None:
        self.progress = progress
        prompt = order.settings["preview_prompt"].strip() or session.scan.usable()[0].prompt
        seed = session.job.config.seed
        self.previewer = self._try(lambda: Previewer(session, prompt, seed, progress.check_cancel))

    def draw(self) -> Image.Image | None:
        previewer = self.previewer
        return None if previewer is None else self._try(previewer.draw)

    def _try(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except mm.OOM_EXCEPTION:
            pass
        self.previewer = None
        gc.collect()
        mm.soft_empty_cache()
        self.progress.note("no previews: not enough memory to draw them while training")
        return None


@contextlib.contextmanager
def _device_to_ourselves() -> Iterator[None]:
    """Unload ComfyUI's models first; release what we used afterwards."""
    wired.clear_device()
    try:
        yield
    finally:
        gc.collect()
        mm.soft_empty_cache()


def _done(folder: RunFolder) -> Done:
    """Put the result where ComfyUI lists it, and notify the page."""
    name, path = places.new_lora(folder.folder.name)
    _deliver(folder.result.read_bytes(), path)
    PromptServer.instance.send_sync("dspo.lora_saved", {"name": name})
    losses = [report["loss"] for report in folder.reports()]
    return Done(comfy.utils.load_torch_file(str(path), safe_load=True), name, losses, _curve(folder))


def _deliver(result: bytes, path: Path) -> None:
    """Write the LoRA; a different file of that name is kept under a new one."""
    if path.exists():
        there = path.read_bytes()
        if there == result:
            return
        kept = path.with_name(f"{path.stem}.replaced-{hashlib.sha256(there).hexdigest()[:8]}{path.suffix}")
        log.warning("%s was not written by its run; it is kept as %s", path.name, kept.name)
        path.replace(kept)
    files.write_bytes(path, result)


def _curve(folder: RunFolder) -> Image.Image:
    """As the run drew it, or redrawn if the file was deleted."""
    try:
        with Image.open(folder.curve) as curve:
            return curve.convert("RGB")
    except OSError:
        write_curve(folder, folder.result.stem)
    with Image.open(folder.curve) as curve:
        return curve.convert("RGB")

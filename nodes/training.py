"""One training inside ComfyUI: folders, memory, progress and Cancel."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management as mm
import comfy.utils
from PIL import Image
from server import PromptServer

from ..dspo_train.config import TrainConfig
from ..dspo_train.config.forms import read_form
from ..dspo_train.exceptions import ConfigError, RunError
from ..dspo_train.pairs import Scan
from ..dspo_train.pairs.discover import pairs_stamp
from ..dspo_train.rounds.course import Ended
from ..dspo_train.runs import keepsake, preflight
from ..dspo_train.runs.continuing import FROM_SCRATCH, beginning, request_of
from ..dspo_train.runs.folder import FREE_SETTINGS, RunFolder
from ..dspo_train.runs.installed import refuse_old_packages
from ..dspo_train.runs.job import Job, Start
from ..dspo_train.runs.machine import Machine, host_memory, shares_memory
from ..dspo_train.runs.memory import Setup, need_of
from ..dspo_train.runs.names import claim
from ..dspo_train.runs.presets import OWN_NUMBER, configure
from ..dspo_train.runs.results import write_curve
from ..dspo_train.runs.session import Session, open_session
from ..dspo_train.training.devices import resolve_precision
from . import places
from .comfy import memory
from .comfy.model import Wired, WiredSource
from .comfy.probe import refuse_unfit
from .comfy.sizes import WiredSizes
from .lora_choice import NamedLora
from .previews import Previews
from .progress import Progress
from .rounds import course_of, outcome
from .run_record import in_panel
from .sockets import PairSet

FIXED = ("optim.name",)  # settings without an input on the node

T = TypeVar("T")

log = logging.getLogger("dspo")


@dataclass(frozen=True)
class Order:
    """The node's inputs.

    Attributes:
        settings: its other widgets and sockets by name.
        graph: the nodes that were queued, by their ids.
        workflow: as the page saves it; None if it was queued without one.
    """

    wired: Wired
    pairs: PairSet
    name: str
    settings: Mapping[str, Any]
    node_id: str
    graph: Mapping[str, Any] = field(default_factory=dict)
    workflow: Any = None


@dataclass(frozen=True)
class Plan:
    """What an order amounts to with this model on this device.

    Attributes:
        refine: the file of the LoRA to start from.
        start: the state of another run to go on from.
        setup: what the run's memory depends on, previews included; None while it is not known.
    """

    order: Order
    config: TrainConfig
    refine: Path | None
    start: Start | None = None
    setup: Setup | None = None

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
        DspoError: the run cannot work; raised, as far as possible, before anything is encoded.
    """
    refuse_old_packages(places.REQUIREMENTS)
    order.wired.checked()
    plan = Plan(order, _config(order), _refine(order))
    request, scratch = _request(plan), order.settings.get("continue_from") == FROM_SCRATCH
    begin = beginning(places.runs(), order.name, request, scratch=scratch)
    folder, steps, count = begin.folder, plan.config.steps, order.settings.get("rounds", 1)
    if folder is not None and folder.completed(steps) and (ended := _ended(plan, folder, count)) is not None:
        if count > 1:
            PromptServer.instance.send_progress_text(outcome(ended, count), order.node_id)
            return _done(ended.folder)
        told = f"Nothing to train: {folder.folder.name} is finished. With more steps it goes on from there"
        PromptServer.instance.send_progress_text(told, order.node_id)
        return _done(folder)
    with _device_to_ourselves():
        plan = _sized(replace(plan, start=begin.start))
        notes = _preflight(plan)
        asked = request_of(request, begin.start)
        folder = folder or claim(places.runs(), order.name, asked, places.lora_folder())
        progress = Progress(order.node_id, folder.folder.name, steps, plan.scan.noun)
        for note in [*begin.notes(steps), *notes]:
            progress.note(note)
        with in_panel(folder, order, steps, lambda: _ended(plan, folder, count) is not None):
            _run(plan, folder, progress)
            if count == 1:
                return _done(folder)
            _done(folder)
            return _done(_rounds(plan, folder, count, progress))


def _ended(plan: Plan, folder: RunFolder, count: int) -> Ended | None:
    """Where the rounds of a run ended, if they did."""
    return Ended(folder, 1, "") if count == 1 else course_of(_job(plan, folder), count, _fresh(plan)).ended()


def _rounds(plan: Plan, folder: RunFolder, count: int, progress: Progress) -> RunFolder:
    """Go on from the first round."""
    found: list[Ended] = []
    course = course_of(_job(plan, folder), count, _fresh(plan), progress)
    assert plan.setup is not None
    if preflight.ran_out_of_memory(lambda: found.append(course.run())):
        raise RunError(preflight.too_large(plan.setup, _machine().total, plan.config.accumulate, FIXED))
    PromptServer.instance.send_progress_text(outcome(found[0], count), plan.order.node_id)
    return found[0].folder


def _fresh(plan: Plan) -> int:
    return plan.order.settings.get("fresh_clicks", 0)


def _config(order: Order) -> TrainConfig:
    given, wired = order.settings, order.wired
    family, device, options = wired.family, mm.get_torch_device(), given.get("options")
    changes = {**read_form("train", given), **({} if options is None else options.values)}
    asked = changes.get("precision", "auto")
    # only CUDA's and ROCm's devices train in fp16
    own = "fp32" if wired.precision == "fp16" and device.type != "cuda" else wired.precision
    changes["precision"] = own if asked == "auto" else resolve_precision(asked, device)
    changes["device"] = "cpu" if device.type == "cpu" else "auto"
    resolution = changes.get("data.resolution", family.resolution)
    if resolution < wired.grain:
        raise ConfigError(f"`data.resolution` must be at least {wired.grain} for this model, got {resolution}")
    changes.setdefault("data.bucket_step", max(1, min(64, resolution) // wired.grain) * wired.grain)
    config = configure(given["preset"].lower(), family.resolution, changes, given.get(OWN_NUMBER, ""))
    return preflight.at_most_the_pairs(config, order.pairs.scan)


def _request(plan: Plan) -> dict[str, Any]:
    """Everything that determines the run, known without loading anything onto the device."""
    settings = {key: value for key, value in plan.config.to_dict().items() if key not in FREE_SETTINGS}
    return {
        "settings": settings,
        "device": mm.get_torch_device().type,
        "wired": plan.order.wired.fingerprint(),
        "refine": None if plan.refine is None else [plan.refine.name, *places.stamp(plan.refine)],
        "pairs": [plan.order.pairs.name, pairs_stamp(plan.scan)],
    }


def _refine(order: Order) -> Path | None:
    name = order.settings.get("refine_lora", places.NO_LORA)
    return None if name == places.NO_LORA else places.lora(name)


def _sized(plan: Plan) -> Plan:
    """With the memory that the run needs, which one encoded prompt and one pass without values tell.

    Raises:
        ModelError: no gradient flows through this model.
    """
    wired, given = plan.order.wired, plan.order.settings
    plan.scan.usable()
    encoder = wired.encoder()
    caption = encoder.prompts([max(plan.scan.prompts, key=len)])
    encoder.release()
    refuse_unfit(wired, caption)
    machine, previews, refine = _machine(), given["preview_every"] > 0, plan.refine is not None
    sizes = WiredSizes(wired, caption)
    setup = preflight.setup_of(sizes, plan.config, refine=refine, previews=previews, shared=machine.shared)
    asked = given.get("gradient_checkpointing", "auto")
    on = asked == "on" or (asked == "auto" and preflight.needs_checkpointing(setup, machine.total))
    config = replace(plan.config, gradient_checkpointing=on)
    return replace(plan, config=config, setup=replace(setup, checkpointing=on))


def _job(plan: Plan, folder: RunFolder) -> Job:
    return Job(
        model=WiredSource(plan.order.wired, 0 if plan.setup is None else _room(plan.setup)),
        pairs=plan.scan.folder,
        out=folder.folder,
        config=plan.config,
        refine=plan.refine,
        cache=places.encodings(),
        scan=plan.scan,
        wired_loras=plan.order.wired.loras,
        start=plan.start,
    )


def _room(setup: Setup) -> int:
    """Bytes beside the weights."""
    need = need_of(setup)
    return need.adapter + need.activations + need.workspace


def _preflight(plan: Plan) -> list[str]:
    """Refuse what cannot work; return warnings about what may not."""
    assert plan.setup is not None
    found = preflight.check_run(
        plan.scan,
        plan.config,
        plan.setup,
        _machine().total,
        out=places.runs(),
        cache=places.encodings(),
        fixed=FIXED,
    )
    asked, at_once = plan.order.settings.get("pairs_at_once", 0), plan.config.batch_size
    fewer = [f"`batch_size` is {at_once}, not {asked}: there are no more {plan.scan.noun}"] if asked > at_once else []
    free = preflight.check_free(plan.setup, _machine().free, plan.config.accumulate, FIXED)
    return [*plan.order.wired.remarks(), *fewer, *found, *free]


def _machine() -> Machine:
    """ComfyUI's device; on the host by our own count, because core ignores a container's limit."""
    device = mm.get_torch_device()
    if shares_memory(device.type):
        return Machine(device.type, *host_memory())
    return Machine(device.type, int(mm.get_total_memory(device)), int(mm.get_free_memory(device)))


def _run(plan: Plan, folder: RunFolder, progress: Progress) -> None:
    assert plan.setup is not None

    def work() -> None:
        with open_session(_job(plan, folder), progress.stage) as session:
            _steps(session, plan.order, progress)

    if preflight.ran_out_of_memory(work):
        raise RunError(preflight.too_large(plan.setup, _machine().total, plan.config.accumulate, FIXED))


def _steps(session: Session, order: Order, progress: Progress) -> None:
    if session.finished:
        return
    every, total = order.settings["preview_every"], session.job.config.steps
    previews = Previews(session, order.settings["preview_prompt"], progress) if every else None
    with contextlib.closing(session.reports()) as reports:
        for report in reports:
            wanted = previews is not None and (report.step % every == 0 or report.step == total or report.stopped)
            progress.step(report, previews.draw() if previews is not None and wanted else None, session.notes.texts)
    if previews is not None and session.finished:
        previews.keep()


@contextlib.contextmanager
def _device_to_ourselves() -> Iterator[None]:
    """Unload ComfyUI's models first; release what we used afterwards."""
    memory.clear()
    try:
        yield
    finally:
        gc.collect()
        memory.clear()


def _done(folder: RunFolder) -> Done:
    """Put the result where ComfyUI lists it, and notify the page."""
    name, path = places.new_lora(folder.folder.name)
    for text in keepsake.deliver(folder, path):
        log.warning(text)
    PromptServer.instance.send_sync("dspo.lora_saved", {"name": name})
    losses = [report["loss"] for report in folder.reports()]
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    return Done(NamedLora(tensors, name), name, losses, _curve(folder))


def _curve(folder: RunFolder) -> Image.Image:
    """As the run drew it, or redrawn if the file was deleted."""
    try:
        with Image.open(folder.curve) as curve:
            return curve.convert("RGB")
    except OSError:
        write_curve(folder, folder.result.stem)
    with Image.open(folder.curve) as curve:
        return curve.convert("RGB")

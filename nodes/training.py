"""One training inside ComfyUI: its folders, its memory, its progress bar and its Cancel."""

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

from ..dspo_train import files, preflight
from ..dspo_train.config import TrainConfig
from ..dspo_train.devices import resolve_precision
from ..dspo_train.exceptions import RunError
from ..dspo_train.memory import Setup
from ..dspo_train.memory_advice import Names
from ..dspo_train.pairs.discover import pairs_stamp
from ..dspo_train.presets import Changes, configure
from ..dspo_train.previews import Previewer
from ..dspo_train.run_names import claim, find
from ..dspo_train.runs import RunFolder
from ..dspo_train.session import Job, Session, open_session, write_curve
from ..dspo_train.single_file import SingleFile, open_single_file
from . import places, wired
from .sockets import PairSet
from .telling import Teller

NAMES = Names(
    "pairs_at_once", "accumulate", None, "resolution", "targets", "rank", "preview_every"
)  # of the node's inputs

T = TypeVar("T")

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
    request = _request(order, config)
    folder = find(places.runs(), order.name, request)
    if folder is None or not folder.completed(config.steps):
        notes = _preflight(order, config, file)
        folder = folder or claim(places.runs(), order.name, request, places.lora_folder())
        teller = Teller(order.node_id, folder.folder.name, config.steps)
        for note in notes:
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
    setup = preflight.setup_of(file, config, refine=_refine(order) is not None)
    on = asked == "on" or (asked == "auto" and preflight.needs_checkpointing(setup, _total_memory()))
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
        "pairs": [order.pairs.name, pairs_stamp(order.pairs.scan)],
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


def _preflight(order: Order, config: TrainConfig, file: SingleFile) -> list[str]:
    """Refuse what cannot work; -> what may not"""
    scan = order.pairs.scan
    notes = preflight.check_pairs(scan, config)
    notes += preflight.check_memory(_setup(order, config, file), _total_memory(), config.accumulate, NAMES)
    preflight.check_disk(places.runs(), places.encodings(), scan, file.family, config)
    return notes


def _setup(order: Order, config: TrainConfig, file: SingleFile) -> Setup:
    previews = order.settings["preview_every"] > 0
    return preflight.setup_of(file, config, refine=_refine(order) is not None, previews=previews)


def _total_memory() -> int:
    return int(mm.get_total_memory(mm.get_torch_device()))


def _run(job: Job, order: Order, teller: Teller) -> None:
    out_of_memory, setup = False, _setup(order, job.config, open_single_file(job.base))
    with _device_to_ourselves():
        for note in preflight.check_free(setup, int(mm.get_free_memory(mm.get_torch_device()))):
            teller.note(note)
        try:
            with open_session(job, teller.encoding) as session:
                _steps(session, order, teller)
        except (mm.OOM_EXCEPTION, MemoryError):
            log.exception("out of memory")
            out_of_memory = True
    if out_of_memory:  # raised here, where no frame holds the tensors any more
        raise RunError(preflight.too_large(setup, _total_memory(), job.config.accumulate, NAMES))


def _steps(session: Session, order: Order, teller: Teller) -> None:
    if session.finished:
        return
    every, total = order.settings["preview_every"], session.job.config.steps
    previews = _Previews(session, order, teller) if every else None
    with contextlib.closing(session.reports()) as reports:
        for report in reports:
            wanted = previews is not None and (report.step % every == 0 or report.step == total)
            teller.step(report, previews.draw() if previews is not None and wanted else None)


class _Previews:
    """Previews as long as the memory does for them; the training goes on without."""

    def __init__(self, session: Session, order: Order, teller: Teller) -> None:
        self.teller = teller
        prompt = order.settings["preview_prompt"].strip() or session.scan.pairs[0].prompt
        seed = session.job.config.seed
        self.previewer = self._try(lambda: Previewer(session, prompt, seed, teller.check_cancel))

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
        self.teller.note("no previews: the memory does not do for them beside the training")
        return None


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
    _deliver(folder.result.read_bytes(), path)
    PromptServer.instance.send_sync("dspo.lora_saved", {"name": name})
    losses = [report["loss"] for report in folder.reports()]
    return Done(comfy.utils.load_torch_file(str(path), safe_load=True), name, losses, _curve(folder))


def _deliver(result: bytes, path: Path) -> None:
    """Put the LoRA into its place; another file of its name is kept under another."""
    if path.exists():
        there = path.read_bytes()
        if there == result:
            return
        kept = path.with_name(f"{path.stem}.replaced-{hashlib.sha256(there).hexdigest()[:8]}{path.suffix}")
        log.warning("%s is not what its run made: it is kept as %s", path.name, kept.name)
        path.replace(kept)
    files.write_bytes(path, result)


def _curve(folder: RunFolder) -> Image.Image:
    """As the run drew it; drawn again where somebody tidied it away."""
    try:
        with Image.open(folder.curve) as picture:
            return picture.convert("RGB")
    except OSError:
        write_curve(folder, folder.result.stem)
    with Image.open(folder.curve) as picture:
        return picture.convert("RGB")

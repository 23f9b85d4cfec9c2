"""What a run of the node records for the panel: its state, and the names to show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import comfy.model_management as mm
from server import PromptServer

from ..dspo_train import files
from ..dspo_train.exceptions import DspoError
from ..dspo_train.runs.folder import RunFolder
from ..dspo_train.runs.overview import About, write_about
from ..dspo_train.runs.status import recorded
from . import places
from .fresh_clicks import Waiting
from .loaded_name import loras_on
from .setting_inputs import in_graph

if TYPE_CHECKING:
    from .training import Order


@contextlib.contextmanager
def in_panel(folder: RunFolder, order: Order, steps: int, complete: Callable[[], bool]) -> Iterator[None]:
    """Inside, the panel shows the run as running; afterwards, how it ended.

    Args:
        complete: see `recorded`.
    """
    cancelled = (mm.InterruptProcessingException, Waiting)
    name = folder.folder.name
    with contextlib.suppress(DspoError):  # a full disk ends the run soon enough, and says so better
        write_about(folder, _about(order))
        if order.workflow:
            files.write_json(folder.workflow, order.workflow)
    try:
        with recorded(folder, steps, cancelled=cancelled, words=in_graph, complete=complete):
            _tell(name)
            yield
    finally:
        _tell(name)


def _tell(run: str) -> None:
    PromptServer.instance.send_sync("dspo.run_state", {"run": run})


def _about(order: Order) -> About:
    refined = order.settings.get("refine_lora", places.NO_LORA)
    wired = loras_on(order.graph, order.node_id, "model")
    return About(
        set=order.pairs.name,
        preset=str(order.settings.get("preset", "")),
        base=order.wired.name or order.wired.family.title,
        parent=", ".join(wired) if refined == places.NO_LORA else refined,
    )

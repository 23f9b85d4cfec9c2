"""The blind tests of a LoRA, and their result beside its file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dspo_train.evaluate.blind import BASE, LORA, arm_names, blind_result, facts_of
from ..dspo_train.exceptions import DspoError
from ..dspo_train.preferences.recognise import is_collected
from ..dspo_train.runs.keepsake import note_test
from . import collecting, places

if TYPE_CHECKING:
    from ..dspo_train.drawing.result_card import ResultCard

log = logging.getLogger("dspo")


def keep_result(folder: Path) -> None:
    """Once all of a test is answered: write the result beside the LoRA, if it is one of DSPO Train LoRA's.

    Of several tests of one LoRA, the one with the most votes counts. What cannot be written is logged.
    """
    name = str(facts_of(folder).get("lora", ""))
    try:
        if not name or collecting.stores.get(folder).progress().open:
            return
        path, best = places.lora(name), best_test(name)
        if best is not None and path.resolve().parent == places.lora_folder().resolve():
            found = blind_result(best)
            note_test(path, _plain(best, found), found.text)
    except DspoError as error:
        log.warning("the result of the blind test %s is not written beside its LoRA: %s", folder.name, error)


def best_test(lora: str) -> collecting.PreferenceStore | None:
    """Of the answered tests of a LoRA, as ComfyUI lists it, the one with the most votes; None without one."""
    counted = [(blind_result(store).votes, store) for store in _answered(lora)]
    return max(counted, key=lambda it: it[0])[1] if any(votes for votes, _ in counted) else None


def result_card(store: collecting.PreferenceStore) -> ResultCard:
    from ..dspo_train.drawing.result_card import ResultCard

    found, called = blind_result(store), arm_names(store)
    return ResultCard(
        title=store.folder.name,
        rate=found.win_rate,
        low=found.low,
        high=found.high,
        counts=(found.wins, found.ties, found.losses),
        names=(called[BASE], called[LORA]),
        text=found.text,
    )


def _answered(lora: str) -> Iterator[collecting.PreferenceStore]:
    parent, wanted = places.blind_tests(), _same(lora)
    folders = [path for path in sorted(parent.iterdir()) if is_collected(path)] if parent.is_dir() else []
    for folder in folders:
        if _same(str(facts_of(folder).get("lora", ""))) == wanted:
            store = collecting.stores.get(folder.resolve())
            if not store.progress().open:
                yield store


def _same(name: str) -> str:
    return name.replace("\\", "/")


def _plain(store: collecting.PreferenceStore, found: Any) -> dict[str, Any]:
    names = ("votes", "win_rate", "low", "high", "wins", "ties", "losses", "prompts")
    strength = facts_of(store.folder).get("strength")
    return {"test": store.folder.name, "strength": strength, **{name: getattr(found, name) for name in names}}

"""Fresh clicks between rounds: a small set of its own in the panel, on what the model draws by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dspo_train.files import digest
from ..dspo_train.preferences import NewImage, PreferenceStore
from ..dspo_train.preferences.recognise import is_collected
from ..dspo_train.rounds.fresh import FreshQuestion
from . import collecting

SUFFIX = "-fresh"  # of a run's name: the set of its fresh clicks


class Waiting(Exception):  # noqa: N818  # nothing is wrong: the person has not answered yet
    """The rounds wait for clicks.

    Attributes:
        name: of the set.
        open: how many clicks are still wanted.
    """

    def __init__(self, name: str, open_questions: int) -> None:
        super().__init__(name)
        self.name, self.open = name, open_questions


@dataclass(frozen=True)
class PanelAsker:
    """Implements `rounds.fresh.Asker`: asks in the panel, and waits until everything is answered or skipped.

    Attributes:
        run: its name.
    """

    run: str

    def __call__(self, number: int, questions: Sequence[FreshQuestion], images: Sequence[Path]) -> list[float | None]:
        """See `rounds.fresh.Asker`.

        Raises:
            Waiting: not all of it is answered.
        """
        name = self.run + SUFFIX
        store = collecting.stores.get(collecting.set_to_extend(name))
        groups = [self._group(store, number, question, images) for question in questions]
        waiting = [group for group in groups if store.question(group) is not None]
        if waiting:
            state = {"set": name, "open": len(waiting), "votes": 0, "train_after": 0, "added": len(waiting)}
            collecting.send("collected", place="sets", **state)
            raise Waiting(name, len(waiting))
        winners = {it.vote.group: it.winner for it in store.judged(ties=True)}
        first = {group.id: group.images[0].image for group in store.groups()}
        return [_target(winners, first, group) for group in groups]

    def _group(self, store: PreferenceStore, number: int, question: FreshQuestion, images: Sequence[Path]) -> str:
        """The question as a group of two images, added once."""
        group = digest(self.run, number, question.first, question.second)[:32]
        if not store.has_group(group):
            pair = [NewImage(images[row].read_bytes()) for row in (question.first, question.second)]
            store.add_group(question.prompt, pair, settings={"run": self.run, "round": number}, id=group)
        return group


def fresh_stamp(name: str | None, sets: Path) -> str:
    """Changes with the fresh clicks of runs of this name, so that ComfyUI does not answer from its cache."""
    if not name or not sets.is_dir():
        return ""
    found = sorted(path for path in sets.glob(f"*{SUFFIX}") if path.name.startswith(name) and is_collected(path))
    return digest(*(text for path in found for text in _answers(collecting.stores.get(path))))


def open_clicks(run: str, sets: Path) -> tuple[str, int]:
    """The set of a run's fresh clicks, and how many are still wanted."""
    name = run + SUFFIX
    found = is_collected(sets / name)
    return name, collecting.stores.get(sets / name).progress().open if found else 0


def _answers(store: PreferenceStore) -> list[str]:
    """With the ties, and how many questions are open: one that is skipped needs no answer."""
    return [*(f"{it.pair} {it.winner}" for it in store.judged(ties=True)), str(store.progress().open)]


def _target(winners: dict[str, str | None], first: dict[str, str], group: str) -> float | None:
    if group not in winners:  # skipped
        return None
    winner = winners[group]
    return 0.5 if winner is None else float(winner == first[group])

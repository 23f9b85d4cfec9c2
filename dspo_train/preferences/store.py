"""The append-only store of what a person collected and clicked: one set, one folder.

store = PreferenceStore(Path("sets/my-taste"))
store.add_group("a lighthouse at dusk", [NewImage(png, seed=1), NewImage(other_png, seed=2)])
[question] = store.next(1)
store.vote(question.pair, "win", question.left, id=id_made_by_the_page, client=tab)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..exceptions import DatasetError
from .asking import asked_of, question_of, sides
from .entries import MAX_PROMPT, Group, Outcome, QuestionSchedule, Removal, clean_prompt, new_id
from .guided import Guide, in_order
from .images import store_image
from .judging import ballot_rows, plan_ballot
from .reading import ReadableSet
from .types import Already, Gone, GroupQuestion, NewImage, Question, Recorded, RecordedBallot, Undone

_MOST_LED = 4096  # questions that are remembered until they are answered


class PreferenceStore(ReadableSet):
    """Reads and extends one set. Any number of threads and processes may do so at once.

    What a method returns as recorded is on the disk. Every method first reads what other processes wrote, and may raise
    RunError where the folder cannot be written, and DatasetError where it cannot be read, another program keeps it
    locked, or a value is not allowed. The store stays usable after either.

    Args:
        folder: of the set; created, with an empty set, where there is none.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._led: dict[str, None] = {}  # names of questions that a guide chose, the latest last

    def add_group(
        self,
        prompt: str,
        images: Sequence[NewImage],
        schedule: QuestionSchedule = "all",
        settings: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
    ) -> Group:
        """Store candidates of one prompt, to be compared with each other. An image given twice counts once.

        Args:
            id: of the group. For an id that the set already has, the existing group is returned.

        Raises:
            DatasetError: fewer than two different images, too many, or something that is not an image.
        """
        with self._current():
            if id is not None and id in self._state.groups:
                return self._state.groups[id].entry
        stored: dict[str, NewImage] = {}
        for image in images:
            stored.setdefault(store_image(self.folder, image.data), image)
        rows = [_row(name, image) for name, image in stored.items()]
        group = id or new_id()
        values = {"prompt": _clean(prompt), "schedule": schedule, "images": rows, "settings": {**(settings or {})}}
        with self._current(write=True):
            if group not in self._state.groups:
                self._write("group", {"id": group, **values})
            return self._state.groups[group].entry

    def next(
        self,
        count: int = 1,
        skip: Collection[str] = frozenset(),
        *,
        client: str | None = None,
        find: str = "",
        guide: Guide | None = None,
    ) -> list[Question]:
        """Up to `count` pairs to judge, of different prompts as far as possible.

        The sides are drawn once for each pair, from a secret of the set: they survive a reload and reveal nothing about
        the order of files.

        Args:
            skip: `Question.pair` of those that are being shown and not answered yet.
            client: the tab that asks; other tabs get other pairs first.
            find: only of prompts that hold this text, in any case.
            guide: what tells most comes first, but for a share that is asked at random; see `guided.in_order`.
        """
        skip, found = frozenset(skip), list[Question]()
        with self._current():
            for group, pair, led in in_order(self._state, guide, skip, client, find, whole=False):
                if len(found) >= count:
                    break
                found.append(question_of(self._state, group, pair))
                self._note(found[-1].pair, led)
        return found

    def next_groups(
        self,
        count: int = 1,
        skip: Collection[str] = frozenset(),
        *,
        client: str | None = None,
        find: str = "",
        guide: Guide | None = None,
    ) -> list[Question | GroupQuestion]:
        """Up to `count` groups to choose among; arguments as of `next`, and `skip` names groups too.

        Where two images are left to compare, or more than MOST_SHOWN, the group is asked about in pairs.
        """
        skip, found = frozenset(skip), dict[str, Question | GroupQuestion]()
        with self._current():
            for group, pair, led in in_order(self._state, guide, skip, client, find, whole=True):
                if group.entry.id in found:  # the whole group, by an earlier pair of it
                    continue
                name, question = asked_of(self._state, group, pair)
                if name not in skip:
                    found.setdefault(name, question)
                    self._note(name, led)
                if len(found) >= count:
                    break
        return list(found.values())

    def question(self, name: str) -> Question | GroupQuestion | None:
        """The question of a pair's name, or of a group's; None where it is answered or removed.

        Raises:
            DatasetError: a pair or group that was never in the set.
        """
        with self._current():
            if "." not in name:
                group = self._group(name)
                return next((asked_of(self._state, group, pair)[1] for pair in group.open), None)
            owner, names = self._find(name)
            if self._state.gone(owner, names) or self._state.counting(owner, names) is not None:
                return None
            return question_of(self._state, self._state.groups[owner], names)

    def vote(
        self,
        pair: str,
        outcome: Outcome,
        winner: str | None = None,
        *,
        id: str | None = None,
        client: str | None = None,
        seconds: float | None = None,
        source: str | None = None,
        relabel: bool = False,
    ) -> Recorded | Already | Gone:
        """Record who won a pair.

        Args:
            pair: `Question.pair`.
            winner: the path of the better image, for a win.
            id: chosen by the client, so that a vote resent after a lost answer is recorded once.
            client: the tab, for `undo`.
            seconds: from showing the pair to the click.
            source: where the vote comes from, unless it is a person's click.
            relabel: replace the vote that counts, if there is one.

        Raises:
            DatasetError: a pair that was never in the set, or a winner that is not in the pair.
        """
        with self._current(write=True):
            known = self._state.votes.get(id or "")
            if known is not None:
                return Recorded(known)
            group, names = self._find(pair)
            if self._state.gone(group, names):
                return Gone(pair)
            counting = self._state.counting(group, names)
            if counting is not None and not relabel:
                return Already(counting)
            group = counting.group if counting is not None else group
            id = id or new_id()
            values = {"group": group, "pair": names, "outcome": outcome, "winner": winner, "client": client}
            values["left"] = None if source else sides(self._state, pair, names)[0]
            values["seconds"] = None if seconds is None else round(seconds, 3)
            values["guided"] = (counting.guided if counting else pair in self._led) or None
            self._write("vote", {"id": id, **values, "source": source, "relabel": relabel or None})
            return Recorded(self._state.votes[id])

    def relabel(
        self,
        pair: str,
        outcome: Outcome,
        winner: str | None = None,
        *,
        id: str | None = None,
        client: str | None = None,
    ) -> Recorded | Already | Gone:
        """Judge a pair anew; as `vote`, but an earlier vote is replaced."""
        return self.vote(pair, outcome, winner, id=id, client=client, relabel=True)

    def judge(
        self,
        group: str,
        best: Sequence[str] = (),
        bad: Sequence[str] = (),
        *,
        images: Sequence[str] | None = None,
        skip: bool = False,
        id: str | None = None,
        client: str | None = None,
        seconds: float | None = None,
    ) -> RecordedBallot | Already | Gone:
        """Record a choice among the candidates of a prompt, as votes on their pairs; see `statements`.

        The group is closed: pairs that the ballot leaves open are not asked. A pair judged in another group keeps its
        vote; a single vote in this group gives way to the ballot where that names a better one.

        Args:
            best: the better images, the best first.
            bad: those that are no good.
            images: those that were shown; by default those that questions are left about.
            skip: no answer.
            id: chosen by the client, so that a ballot resent after a lost answer, or half written, is recorded once.

        Raises:
            DatasetError: an unknown group, or images that are not in it, named twice or not shown.
        """
        with self._current(write=True):
            plan = plan_ballot(self._state, self._group(group), images, best, bad, skip, id)
            if not isinstance(plan, list):
                return plan
            id = id or new_id()
            seconds = None if seconds is None else round(seconds, 3)
            common = {"client": client, "ballot": id, "seconds": seconds, "guided": group in self._led or None}
            rows = ballot_rows(self._state, group, plan, common)
            self._write("vote", *rows)
            return RecordedBallot(id, tuple(self._state.ballots[id]))

    def undo(
        self,
        vote: str | None = None,
        *,
        client: str | None = None,
        earlier: Collection[str] = (),
        id: str | None = None,
    ) -> Undone | None:
        """Take back the vote or ballot with the given id, or the last one that counts: of a client, or of all.

        Of a ballot, all votes are taken back. Where a vote had replaced another one, that one counts again. With both
        given, the vote must be the client's and count.

        Args:
            earlier: further clients, the pages that the same person had before: theirs follow when none is left.
            id: of the undo itself, so that it can be resent after a lost answer.

        Returns:
            What was taken back, or None where nothing was left to take back.

        Raises:
            DatasetError: no such vote, and no client was given.
        """
        with self._current(write=True):
            done = self._state.undos.get(id or "")
            if done is not None:
                return Undone(done, self._state.votes[done.vote])
            found = self._state.last_of(client, earlier) if vote is None else self._named(vote)
            if vote is not None and client is not None:
                own = found if found is not None and found.client == client else None
                parts = self._state.together(own) if own else []
                found = own if any(self._state.status(each) == "counts" for each in parts) else None
            elif vote is not None and found is None:
                raise DatasetError(f"{self._log.path}: there is no vote {vote!r}; look it up in the history")
            if found is None or found.id in self._state.undone:
                return None
            id = id or new_id()
            self._write("undo", {"id": id, "vote": found.id})
            return Undone(self._state.undos[id], found)

    def remove(self, target: str, *, id: str | None = None) -> Removal | None:
        """Remove a group (by its id), or an image (by its name) from all groups; None where it is removed already.

        Nothing is deleted. Votes on what is removed do not count until it is restored.

        Raises:
            DatasetError: no such image or group.
        """
        return self._remove("remove", target, id)

    def restore(self, target: str, *, id: str | None = None) -> Removal | None:
        """Put back what `remove` took out; None where it is in."""
        return self._remove("restore", target, id)

    def _note(self, name: str, led: bool) -> None:
        """Remember whether a guide chose a question, until its answer comes."""
        self._led.pop(name, None)
        if led:
            self._led[name] = None
            while len(self._led) > _MOST_LED:
                del self._led[next(iter(self._led))]

    def _remove(self, kind: Literal["remove", "restore"], target: str, id: str | None) -> Removal | None:
        with self._current(write=True):
            known = self._state.removals.get(id or "")
            if known is not None:
                return known
            if not self._state.knows(target):
                raise DatasetError(f"{self._log.path}: there is no image or group {target!r} to {kind}")
            if self._state.removed(target) == (kind == "remove"):
                return None
            id = id or new_id()
            self._write(kind, {"id": id, "group" if target in self._state.groups else "image": target})
            return self._state.removals[id]


def _row(name: str, image: NewImage) -> dict[str, Any]:
    row: dict[str, Any] = {"image": name, "seed": image.seed, "arm": image.arm}
    return {name: value for name, value in row.items() if value is not None}


def _clean(prompt: str) -> str:
    if len(prompt) > MAX_PROMPT:
        raise DatasetError(f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT} are kept")
    return clean_prompt(prompt)

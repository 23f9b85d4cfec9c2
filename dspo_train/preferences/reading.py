"""What a set holds, as lists and counts."""

from __future__ import annotations

from ..exceptions import DatasetError
from .entries import Group, ImagePair, Vote, canonical, pair_id
from .groups import GroupState
from .live import LiveSet
from .types import BrokenLine, Judged, Opinion, Reviewed, VotingProgress


class ReadableSet(LiveSet):
    """The part of `PreferenceStore` that changes nothing."""

    @property
    def clicks(self) -> int:
        """How many votes by themselves and ballots were ever given, undone or not."""
        with self._current():
            return len(self._state.clicks)

    @property
    def lines(self) -> int:
        """Of the log: two times with as many have the same votes, groups and removals."""
        with self._current():
            return self._log.lines

    def progress(self) -> VotingProgress:
        with self._current():
            return self._state.progress()

    def history(self, offset: int = 0, limit: int = 50) -> list[Reviewed]:
        """All votes, the newest first, with what became of each."""
        with self._current():
            state, end = self._state, len(self._state.history) - max(offset, 0)
            page = state.history[max(0, end - max(limit, 0)) : max(0, end)]
            return [
                Reviewed(v, pair_id(v.group, v.pair), state.groups[v.group].entry.prompt, state.status(v))
                for v in reversed(page)
            ]

    def find(self, vote: str) -> Vote | None:
        """The vote of that id, whether it counts or not."""
        with self._current():
            return self._state.votes.get(vote)

    def judged(self, *, ties: bool = False) -> list[Judged]:
        """The pairs with a winner that counts, and on request those without: ties, and pairs called bad."""
        with self._current():
            return [judged for judged in self._state.judged() if ties or judged.winner is not None]

    def opinions(self) -> list[Opinion]:
        """The images that are liked or disliked by themselves, where a ballot or a vote called some bad."""
        with self._current():
            return self._state.opinions()

    def has_group(self, id: str) -> bool:
        """Was the group ever added, removed or not?"""
        with self._current():
            return id in self._state.groups

    def groups(self) -> list[Group]:
        """All groups that were not removed, in the order in which they were added."""
        with self._current():
            return self._state.present_groups()

    def images(self) -> dict[str, str]:
        """The images that are in the set, with the prompt of each: that of the first group that holds it."""
        with self._current():
            return self._state.present_images()

    def broken(self) -> list[BrokenLine]:
        """The lines of the log that cannot be used. They stay in the file."""
        with self._current():
            return list(self._state.broken)

    def _group(self, name: str) -> GroupState:
        group = self._state.groups.get(name)
        if group is None:
            raise DatasetError(f"{self._log.path}: there is no group {name!r}; ask for the next question")
        return group

    def _named(self, name: str) -> Vote | None:
        """A vote, or the first of a ballot."""
        return next(iter(self._state.ballots.get(name, ())), None) or self._state.votes.get(name)

    def _find(self, pair: str) -> tuple[str, ImagePair]:
        name, *ends = pair.split(".")
        group = self._state.groups.get(name)
        if group is None or len(ends) != 2 or ends[0] == ends[1] or not all(end in group.names for end in ends):
            raise DatasetError(f"{self._log.path}: there is no pair {pair!r}; ask for the next question")
        return name, canonical(group.names[ends[0]], group.names[ends[1]])

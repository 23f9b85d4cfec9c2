"""The state of one group."""

from __future__ import annotations

from typing import NamedTuple

from .entries import Group, ImagePair, Vote, digits


class Tally(NamedTuple):
    """Counts of pairs, of one group or of all."""

    answered: int = 0
    open: int = 0
    total: int = 0
    wins: int = 0
    ties: int = 0
    skips: int = 0
    bads: int = 0
    groups_answered: int = 0
    groups: int = 0


class GroupState:
    """One group: its votes, and what follows from them."""

    def __init__(self, entry: Group, position: int) -> None:
        self.entry = entry
        self.position = position
        self.images = entry.names
        self.names = {digits(name): name for name in self.images}
        # Not undone, the newest last; pairs in order of their first answer.
        self.votes: dict[ImagePair, list[Vote]] = {}
        self.open: list[ImagePair] = []
        self.closed = False  # by a ballot
        self.answers: dict[ImagePair, Vote] = {}  # the vote that counts on each pair that is in the set
        self.present: tuple[str, ...] = self.images
        self.family: list[GroupState] = [self]  # the groups that share a pair of images and the prompt, in order
        self.tally = Tally()

    @property
    def asked(self) -> tuple[str, ...]:
        """The images that questions are left about."""
        if self.entry.schedule != "all":
            return self.present if self.open else ()
        waiting = {image for pair in self.open for image in pair}
        return tuple(image for image in self.present if image in waiting)

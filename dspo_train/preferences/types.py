"""What a preference store returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .entries import ImagePair, Undo, Vote

Status = Literal["counts", "undone", "replaced", "removed"]


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to add: the bytes of a PNG, JPEG or WebP file, the noise seed, and the arm that drew it."""

    data: bytes = field(repr=False)
    seed: int | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One pair to judge. `left` and `right` are paths below the folder of the set; `pair` names it in a vote."""

    pair: str
    group: str
    prompt: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class GroupQuestion:
    """All candidates of one prompt to choose among, in the hidden order in which they are shown."""

    group: str
    prompt: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The vote is on the disk. A vote sent twice under one id gets the same answer twice."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class RecordedBallot:
    """The votes that a ballot means are on the disk. A ballot sent twice under one id gets the same answer twice."""

    ballot: str
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Already:
    """Nothing was written: `vote` counts on this pair, and the new vote was not meant to replace it."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing was written: the pair, its group or one of its images was removed from the set.

    Attributes:
        pair: the name of the pair; of the group for a ballot.
    """

    pair: str


@dataclass(frozen=True, slots=True)
class Undone:
    """`vote` no longer counts; where it is part of a ballot, none of that ballot does."""

    undo: Undo
    vote: Vote


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A vote as the review shows it. `replaced`: a newer vote on the pair counts; `removed`: the pair is gone."""

    vote: Vote
    pair: str
    prompt: str
    status: Status


@dataclass(frozen=True, slots=True)
class VotingProgress:
    """Counts of pairs that are in the set; removed ones are left out.

    A pair of images that several groups of one prompt hold is one pair. What a ballot leaves open is not asked, so it
    is in no count.

    Attributes:
        open: how many can be asked now; a Swiss round opens when the one before is answered.
        total: all that were and will be asked.
        bads: pairs of which neither image is any good.
        groups_answered, groups_total: groups with questions of their own, and those of them with none left.
        groups: group id -> (answered, total).
    """

    answered: int
    open: int
    total: int
    wins: int
    ties: int
    skips: int
    bads: int
    groups_answered: int
    groups_total: int
    groups: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with the vote that counts: a win, or a tie or "both bad", whose `winner` is None.

    Names are paths below the folder.
    """

    pair: str
    prompt: str
    images: ImagePair
    winner: str | None
    vote: Vote

    @property
    def loser(self) -> str | None:
        if self.winner is None:
            return None
        return self.images[1] if self.winner == self.images[0] else self.images[0]


@dataclass(frozen=True, slots=True)
class Opinion:
    """One image by itself: liked or disliked for its prompt, from what was called bad. `vote` is the last that says so.

    Attributes:
        image: a path below the folder of the set.
    """

    image: str
    prompt: str
    liked: bool
    vote: Vote


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line of `preferences.jsonl`, counted from 1, that cannot be used; it stays in the file."""

    line: int
    message: str

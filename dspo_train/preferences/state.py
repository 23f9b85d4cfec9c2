"""The state of a set after its lines, kept up to date line by line."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from operator import add, sub

from .ballots import liked_and_disliked
from .entries import Entry, EntryError, Group, Header, ImagePair, Removal, Undo, Vote, digits, pair_id, parse
from .groups import GroupState, Tally
from .log import NumberedLine
from .overlaps import elsewhere, join, reach
from .schedule import expected, questions
from .types import BrokenLine, Judged, Opinion, Status, VotingProgress


class SetState:
    """The sum of all lines read so far. Feeding one is cheap; `settle` brings the open questions up to date."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self.groups: dict[str, GroupState] = {}
        self.votes: dict[str, Vote] = {}
        self.history: list[Vote] = []
        self.clicks: list[str] = []  # the group of every vote by itself and of every ballot, undone or not
        self.ballots: dict[str, list[Vote]] = {}
        self.undos: dict[str, Undo] = {}
        self.undone: set[str] = set()
        self.removals: dict[str, Removal] = {}
        self.broken: list[BrokenLine] = []
        self.line_of: dict[str, int] = {}
        self._by_position: list[GroupState] = []
        self._by_client: dict[str, list[Vote]] = {}
        self._groups_of: dict[str, list[str]] = {}
        self._removed: set[str] = set()
        self._changed: dict[str, None] = {}
        self._waiting: list[int] = []  # positions of the groups with open questions, ascending
        self._totals = Tally()

    def feed(self, lines: Iterable[NumberedLine]) -> None:
        """Take in numbered lines; `broken` notes what is wrong with any.

        Raises:
            DatasetError: a newer program made the set.
        """
        for number, line in lines:
            if not line.strip():
                continue
            try:
                entry = parse(line)
                self._apply(entry)
            except EntryError as error:
                self.broken.append(BrokenLine(number, str(error)))
            else:
                if isinstance(entry, Vote):
                    self.line_of[entry.id] = number

    def _apply(self, entry: Entry) -> None:
        if isinstance(entry, Vote):
            self._vote(entry)
        elif isinstance(entry, Group):
            self._group(entry)
        elif isinstance(entry, Undo):
            self._undo(entry)
        elif isinstance(entry, Removal):
            self._removal(entry)
        elif self.header is None:
            self.header = entry

    def _group(self, entry: Group) -> None:
        if entry.id in self.groups:
            raise EntryError(f"repeats the group {entry.id}; the first one is used")
        self.groups[entry.id] = group = GroupState(entry, len(self.groups))
        self._by_position.append(group)
        near = Counter(name for image in group.images for name in self._groups_of.get(image, ()))
        join(group, [self.groups[name] for name, shared in near.items() if shared > 1])
        for name in group.images:
            self._groups_of.setdefault(name, []).append(entry.id)
        self._changed[entry.id] = None

    def _vote(self, vote: Vote) -> None:
        group = self.groups.get(vote.group)
        if group is None or any(group.names.get(digits(name)) != name for name in vote.pair):
            raise EntryError(f"is a vote on images that are not in the group {vote.group}")
        if vote.id in self.votes:
            raise EntryError(f"repeats the vote {vote.id}; the first one is used")
        self.votes[vote.id] = vote
        self.history.append(vote)
        group.votes.setdefault(vote.pair, []).append(vote)
        if vote.ballot is None or vote.ballot not in self.ballots:
            self.clicks.append(vote.group)
        if vote.ballot is not None:
            self.ballots.setdefault(vote.ballot, []).append(vote)
        if vote.client is not None:
            self._by_client.setdefault(vote.client, []).append(vote)
        self._changed[vote.group] = None

    def _undo(self, undo: Undo) -> None:
        vote = self.votes.get(undo.vote)
        if vote is None:
            raise EntryError(f"takes back the vote {undo.vote}, which no earlier line gives")
        self.undos[undo.id] = undo
        for each in self.together(vote):
            self._take_back(each)

    def _take_back(self, vote: Vote) -> None:
        if vote.id in self.undone:
            return
        self.undone.add(vote.id)
        votes = self.groups[vote.group].votes
        votes[vote.pair].remove(vote)
        if not votes[vote.pair]:
            del votes[vote.pair]
        self._changed[vote.group] = None

    def _removal(self, entry: Removal) -> None:
        target = entry.image or entry.group or ""
        if target not in self._groups_of and target not in self.groups:
            raise EntryError(f"is about {target}, which is not in the set")
        self.removals[entry.id] = entry
        if entry.kind == "remove":
            self._removed.add(target)
        else:
            self._removed.discard(target)
        self._changed.update(dict.fromkeys(self._groups_of.get(target, [target])))

    def settle(self) -> None:
        """Bring open questions and counts up to date for the groups that changed, and those that share pairs with them.

        In the order of the file: what an earlier group asks, a later one does not.
        """
        changed = sorted(reach(self.groups[name] for name in self._changed), key=lambda group: group.position)
        for group in changed:
            self._look(group)
        for group in changed:
            was_waiting = bool(group.open)
            before = group.tally
            self._tally(group)
            change = map(sub, group.tally, before)
            self._totals = Tally(*map(add, self._totals, change))
            if bool(group.open) != was_waiting:
                place = bisect.bisect_left(self._waiting, group.position)
                if group.open:
                    self._waiting.insert(place, group.position)
                else:
                    del self._waiting[place]
        self._changed.clear()

    def _look(self, group: GroupState) -> None:
        """What of the group is in the set, and whether a ballot closed it."""
        entry, removed = group.entry, self._removed
        group.present, votes = group.images, group.votes
        if removed:
            group.present = () if entry.id in removed else tuple(it for it in group.images if it not in removed)
            votes = {pair: found for pair, found in votes.items() if not self.gone(entry.id, pair)}
        group.answers = {pair: found[-1] for pair, found in votes.items()}
        group.closed = any(vote.ballot for found in votes.values() for vote in found)

    def _tally(self, group: GroupState) -> None:
        entry, others = group.entry, elsewhere(group)
        answers = {pair: vote for pair, vote in group.answers.items() if pair not in others}
        group.open = []
        if not group.closed:
            seed = f"{self.header.seed if self.header else ''}.{entry.id}"
            settled = {pair: vote for pair, vote in others.items() if vote is not None}
            found = questions(entry.schedule, group.present, {**answers, **settled}, seed)
            group.open = [pair for pair in found if pair not in others] if others else found
        outcomes = [vote.outcome for vote in answers.values()]
        answered, waiting = len(answers), len(group.open)
        planned = expected(entry.schedule, len(group.present)) - len(others) if waiting else 0
        total = max(planned, answered + waiting) if entry.schedule == "swiss" else answered + waiting
        wins, ties, skips, bads = map(outcomes.count, ("win", "tie", "skip", "bad"))
        done, asks = int(total > 0 and not waiting), int(total > 0)
        group.tally = Tally(answered, waiting, total, wins, ties, skips, bads, done, asks)

    def _lacks(self, pair: ImagePair) -> bool:
        return pair[0] in self._removed or pair[1] in self._removed

    def removed(self, target: str) -> bool:
        """Whether an image or group, by its name, is currently removed."""
        return target in self._removed

    def knows(self, target: str) -> bool:
        """Whether an image or group of that name was ever in the set."""
        return target in self.groups or target in self._groups_of

    def gone(self, group: str, pair: ImagePair) -> bool:
        return group in self._removed or self._lacks(pair)

    def counting(self, group: str, pair: ImagePair) -> Vote | None:
        """The vote that counts on a pair: the newest that was not undone, of the first group that has any."""
        for each in self.groups[group].family:
            votes = each.votes.get(pair)
            if votes and (each.entry.id == group or each.entry.id not in self._removed):
                return votes[-1]
        return None

    def together(self, vote: Vote) -> list[Vote]:
        """The vote and the others of its ballot."""
        return self.ballots[vote.ballot] if vote.ballot is not None else [vote]

    def status(self, vote: Vote) -> Status:
        if vote.id in self.undone:
            return "undone"
        if self.gone(vote.group, vote.pair):
            return "removed"
        return "counts" if self.counting(vote.group, vote.pair) is vote else "replaced"

    def last_of(self, client: str | None, earlier: Collection[str] = ()) -> Vote | None:
        """The last vote that counts of a client, else of earlier ones; of anybody where no client is given."""
        if client is None:
            return self._last_counting(self.history)
        own = self._last_counting(self._by_client.get(client, []))
        return own or self._last_counting([vote for vote in self.history if vote.client in earlier] if earlier else [])

    def _last_counting(self, votes: list[Vote]) -> Vote | None:
        return next((vote for vote in reversed(votes) if self.status(vote) == "counts"), None)

    def asking(self) -> list[GroupState]:
        """The groups with open questions, in the order of the file."""
        return [self._by_position[place] for place in self._waiting]

    def last_group(self, client: str | None) -> GroupState | None:
        """The group voted on last, by a client or, where none is given, by anybody."""
        votes = self.history if client is None else self._by_client.get(client)
        return self.groups[votes[-1].group] if votes else None

    def progress(self) -> VotingProgress:
        groups = {name: (group.tally.answered, group.tally.total) for name, group in self.groups.items()}
        return VotingProgress(*self._totals, groups)

    def present_groups(self) -> list[Group]:
        """All groups that were not removed, in the order of the file."""
        return [group.entry for name, group in self.groups.items() if not self.removed(name)]

    def present_images(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for group in self.groups.values():
            for image in group.present:
                found.setdefault(image, group.entry.prompt)
        return found

    def judged(self) -> Iterator[Judged]:
        """Every pair with a win, a tie or "both bad" that counts, by group, in the order of the file."""
        for name, group in self.groups.items():
            for pair, votes in group.votes.items():
                vote = votes[-1]
                if vote.outcome != "skip" and self.status(vote) == "counts":
                    yield Judged(pair_id(name, pair), group.entry.prompt, pair, vote.winner, vote)

    def opinions(self) -> list[Opinion]:
        """Images that are liked or disliked by themselves, in the order of the file; the last vote on each says so."""
        ballots: dict[str, list[Vote]] = {}
        for vote in self.history:
            if self.status(vote) == "counts" and (vote.ballot or vote.outcome == "bad"):
                ballots.setdefault(vote.ballot or vote.id, []).append(vote)
        found: dict[tuple[str, str], Opinion] = {}
        for votes in ballots.values():
            prompt = self.groups[votes[0].group].entry.prompt
            for liked, images in zip((True, False), liked_and_disliked(votes), strict=True):
                for image in sorted(images):
                    found.pop((prompt, image), None)
                    found[prompt, image] = Opinion(image, prompt, liked, votes[-1])
        return list(found.values())

"""What of a ballot is written: its votes, less what stands already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..files import digest
from .ballots import Statement, check_choice, passed, statements
from .entries import Vote
from .groups import GroupState
from .state import SetState
from .types import Already, Gone, RecordedBallot


def plan_ballot(
    state: SetState,
    group: GroupState,
    images: Sequence[str] | None,
    best: Sequence[str],
    bad: Sequence[str],
    skip: bool,
    id: str | None,
) -> list[Statement] | RecordedBallot | Already | Gone:
    """What is to be written; else the answer. Arguments as of `PreferenceStore.judge`.

    Raises:
        DatasetError: images that are not in the group, named twice or not shown.
    """
    name, known = group.entry.id, state.ballots.get(id or "", [])
    shown = tuple(images if images is not None else group.asked or group.present or group.images)
    check_choice(group.images, shown, ())
    meant = passed(shown) if skip else statements(shown, best, bad)
    meant = [it for it in meant if not state.gone(name, it.pair)]
    if known:
        undone = any(vote.id in state.undone for vote in known)
        return ([] if undone else _missing(meant, known)) or RecordedBallot(id or "", tuple(known))
    if {*best, *bad} - {*group.present} or not meant:
        return Gone(name)
    new = [it for it in meant if _is_news(state, name, it)]
    if group.closed or not new:
        standing = [vote for it in meant if (vote := state.counting(name, it.pair)) is not None]
        ballots = [vote for vote in standing if vote.ballot]
        return Already((ballots or standing)[-1]) if standing else Gone(name)
    return new


def ballot_rows(
    state: SetState, group: str, meant: Sequence[Statement], common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One line for each pair; the ids follow from the ballot's, so that the rest of a half written one can be added."""
    rows: list[dict[str, Any]] = []
    for it in meant:
        replaces = state.counting(group, it.pair) is not None
        row = {"id": digest(common["ballot"], *it.pair)[:32], "group": group, "pair": it.pair, "outcome": it.outcome}
        rows.append({**row, "winner": it.winner, **common, "bad": it.bad or None, "relabel": replaces or None})
    return rows


def _is_news(state: SetState, group: str, statement: Statement) -> bool:
    """A pair judged in another group keeps its vote; a single vote in this one gives way to a better image."""
    counting = state.counting(group, statement.pair)
    return counting is None or (counting.group == group and statement.outcome == "win")


def _missing(meant: Sequence[Statement], known: Sequence[Vote]) -> list[Statement]:
    """What a crash left unwritten of a ballot; nothing where it says something else under the same id."""
    written = {vote.pair: (vote.outcome, vote.winner) for vote in known}
    same = all(written.get(it.pair, (it.outcome, it.winner)) == (it.outcome, it.winner) for it in meant)
    return [it for it in meant if it.pair not in written] if same else []

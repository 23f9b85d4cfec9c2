"""The result of a blind test: how often the arm `lora` was preferred over the arm `base`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..files.names import file_name
from ..files.numbered import claim_number, numbered_paths
from ..preferences.store import PreferenceStore

BASE, LORA = "base", "lora"
MARK = "test.json"

_SCORES = {BASE: 0.0, LORA: 1.0, None: 0.5}


@dataclass(frozen=True, slots=True)
class BlindResult:
    """The LoRA's score over the base.

    Attributes:
        votes: those that count; skips do not.
        win_rate: share of votes for the LoRA, ties counted as one half; None without votes, like `low` and `high`.
        low, high: the 95% interval, with the prompt as the independent unit.
        to_settle: how many more votes until the interval excludes one half; None if no number can be given.
        text: the result in one sentence.
    """

    votes: int
    win_rate: float | None
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    prompts: int
    to_settle: int | None
    text: str


def blind_result(store: PreferenceStore) -> BlindResult:
    """Sum up the votes of a set whose groups hold one image of each arm; other groups are left out."""
    scores = _scores(store)
    if not scores:
        return BlindResult(0, None, None, None, 0, 0, 0, 0, None, "Nothing has been judged yet.")
    from .winrate import votes_to_settle, win_rate

    rate = win_rate(scores)
    values = [score for _, score in scores]
    to_settle = votes_to_settle(scores) if rate.prompts > 1 else None
    text = _sentence(rate.rate, rate.low, rate.high, rate.comparisons, rate.prompts, to_settle)
    counts = (values.count(1.0), values.count(0.5), values.count(0.0))
    return BlindResult(rate.comparisons, rate.rate, rate.low, rate.high, *counts, rate.prompts, to_settle, text)


def arm_names(store: PreferenceStore) -> dict[str, str]:
    """The test's names for its arms; the arms' own names if it gives none."""
    found: Any = next((group.settings.get("names") for group in store.groups()), None)
    given = found if isinstance(found, dict) else {}
    return {arm: str(given.get(arm) or arm) for arm in (BASE, LORA)}


def find_test(parent: Path, name: str, request: str) -> Path | None:
    """The folder of a whole test of that name that was asked for with the same digest, if there is one.

    Raises:
        ConfigError: `name` is not a plain name.
    """
    return next((path for path in _tests(parent, name) if facts_of(path).get("request") == request), None)


def claim_test(parent: Path, name: str, images: str) -> Path:
    """The folder of an existing test of that name with the same images, or a new one: `name-01`, `name-02`, ...

    Args:
        images: a digest of what is compared.

    Raises:
        ConfigError: `name` is not a plain name.
        RunError: the folder cannot be made.
    """
    name = file_name(name, "the test's name")
    if (found := next((path for path in _tests(parent, name) if facts_of(path).get("images") == images), None)) is None:
        taken = max((number for number, path in numbered_paths(parent, name) if path.is_dir()), default=0)
        found = claim_number(parent, name, taken)
        files.write_json(found / MARK, {"images": images})
    return found


def note_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Add to what `facts_of` tells of a test: once all of its images are in it, so that `find_test` finds no half."""
    known = facts_of(folder)
    if (wanted := {**known, **facts}) != known:
        files.write_json(folder / MARK, wanted)


def facts_of(folder: Path) -> dict[str, Any]:
    """What is written about a test beside its images; empty where nothing can be read.

    Keys, where known: `images` and `request`, the digests by which it is found again; `lora`, the name of the LoRA in
    ComfyUI's list; `strength`.
    """
    return files.read_json_object(folder / MARK)


def _tests(parent: Path, name: str) -> list[Path]:
    """The tests of that name, oldest first."""
    found = numbered_paths(parent, file_name(name, "the test's name"))
    return [path for _, path in reversed(list(found)) if path.is_dir()]


def _scores(store: PreferenceStore) -> list[tuple[str, float]]:
    """(prompt, score) of every win and tie; pairs without a prompt count as one prompt together."""
    arms = {group.id: {image.image: image.arm for image in group.images} for group in store.groups()}
    found = []
    for judged in store.judged(ties=True):
        group = arms.get(judged.vote.group, {})
        if {group.get(image) for image in judged.images} == {BASE, LORA}:
            winner = None if judged.winner is None else group[judged.winner]
            found.append((judged.prompt, _SCORES[winner]))
    return found


def _sentence(rate: float, low: float, high: float, votes: int, prompts: int, to_settle: int | None) -> str:
    interval = f"95% interval {low:.0%} to {high:.0%}"
    result = (
        f"The LoRA was preferred in {rate:.0%} of {_count(votes, 'vote')} on {_count(prompts, 'prompt')} ({interval})"
    )
    if prompts == 1 and votes > 1:
        return f"{result}; one prompt says little about others, so test on more."
    if low > 0.5:
        return f"{result}: it is better than the base."
    if high < 0.5:
        return f"{result}: it is worse than the base."
    if to_settle is None:
        return f"{result}: no difference is visible."
    return f"{result}: not settled yet; about {_count(to_settle, 'more vote')} would settle it at this rate."


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

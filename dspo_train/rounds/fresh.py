"""A few more clicks between rounds, on what the model draws by then: they refit the taste model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import files
from ..taste.head import Head


@dataclass(frozen=True)
class FreshQuestion:
    """Two images of one prompt, by their rows among a round's images."""

    prompt: str
    first: int
    second: int


class Asker(Protocol):
    """Asks the person."""

    def __call__(
        self, number: int, questions: Sequence[FreshQuestion], images: Sequence[Path]
    ) -> Sequence[float | None]:
        """1 where the first is better, 0 where the second is, 0.5 for a tie and None for no answer.

        Args:
            number: of the round that the images are for.

        Raises:
            An exception of the front end where the person has not answered yet; a later call asks the same again.
        """
        ...


def questions_of(head: Head, features: np.ndarray, prompts: Sequence[str], count: int) -> list[FreshQuestion]:
    """The pairs that tell most, at most one of each prompt."""
    rows = [
        (first, first + 1)
        for first in range(len(prompts) - 1)
        if prompts[first] == prompts[first + 1] and (first == 0 or prompts[first - 1] != prompts[first])
    ]
    if not rows:
        return []
    firsts, seconds = (np.array(side) for side in zip(*rows, strict=True))
    order = np.argsort(-head.disagreement(features[firsts], features[seconds]), kind="stable")[:count].tolist()
    chosen = [rows[place] for place in sorted(order)]
    return [FreshQuestion(prompts[int(first)], int(first), int(second)) for first, second in chosen]


def answered(place: Path) -> list[dict[str, Any]] | None:
    """What was answered in an earlier call; None where nothing was."""
    found = files.read_json_object(place).get("answers")
    return found if isinstance(found, list) else None


def keep_answers(
    place: Path, questions: Sequence[FreshQuestion], answers: Sequence[float | None], head: Head, features: np.ndarray
) -> list[dict[str, Any]]:
    """Write the answers with what the taste model had foretold of each."""
    found = [
        {
            "prompt": question.prompt,
            "first": question.first,
            "second": question.second,
            "target": answer,
            "foretold": round(float(head.probability(features[[question.first]], features[[question.second]])[0]), 4),
        }
        for question, answer in zip(questions, answers, strict=True)
        if answer is not None
    ]
    files.write_json(place, {"answers": found})
    return found


def share_right(answers: Sequence[Mapping[str, Any]]) -> float | None:
    """How often the taste model had foretold the better image; None without a decided answer."""
    decided = [answer for answer in answers if answer["target"] != 0.5]
    if not decided:
        return None
    return sum((answer["foretold"] > 0.5) == (answer["target"] > 0.5) for answer in decided) / len(decided)

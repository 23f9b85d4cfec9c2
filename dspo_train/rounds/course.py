"""The course of the rounds: train, draw with what was trained, check, label, train on; resumable at every stage.

OUT/                    the first round: an ordinary run on the clicks
OUT/rounds/clicks/      features of the clicked images
OUT/rounds/2/drawn/     what the LoRA of the round before drew, with drawn.json
OUT/rounds/2/answers.json   fresh clicks on it, where some were asked for
OUT/rounds/2/check.json what the guard measured on it
OUT/rounds/2/pairs/     what was labelled, and the clicks
OUT/rounds/2/NAME-r2/   the run of this round, which refines the LoRA of the round before
OUT/rounds/asked.json   how the rounds go
OUT/rounds/end.json     which round is kept, of how many that were asked for, and why it ended
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from .. import files
from ..config import TrainConfig, from_dict
from ..config.run import nested
from ..data import draws
from ..exceptions import RunError
from ..lora.attach import applied
from ..pairs import Scan, scan_folder
from ..runs.folder import RunFolder
from ..runs.job import Job
from ..runs.presets import WARM_UP
from ..runs.session import OnStageProgress, encodings_of, open_session
from ..runs.standing import BEGUN, ENDING, ROUNDS, run_of_round
from ..taste.looking import comparisons_of
from ..training.devices import accelerator
from ..training.model import Model, ModelSource
from ..training.trainer import StepReport
from .examiner import Examiner
from .fresh import Asker, answered, keep_answers, questions_of, share_right
from .guard import Check, Limits
from .knowledge import Knowledge
from .labelling import Label, labelled
from .pairs import TABLE, write_drawn, write_round

_FIRST_SEED = 5 * 10**8  # of drawn images; a round's follow those of the round before
_FEWEST = 8  # pairs of a round


class Painter(Protocol):
    """Draws as the person does."""

    def __call__(
        self, model: Model, prompts: Sequence[str], seeds: Sequence[int], on_image: Callable[[int], None]
    ) -> list[Image.Image]:
        """One image for each prompt and seed, with whatever adapters the network carries.

        Args:
            on_image: called with the number of images drawn; what it raises ends the drawing.
        """
        ...


@dataclass(frozen=True)
class Rounds:
    """How the rounds go.

    Attributes:
        count: of trainings, the first on the clicks alone.
        pairs: that are labelled in a round, at most; two images are drawn for each.
        steps: of each round after the first.
        ask: for how many fresh clicks before each round after the first.
        word_budget: of each round after the first, where the run itself has none; see `training.words`.
        changes: to the settings of each round after the first, by dotted name.
        least: probability below which the taste model's label is left out.
    """

    count: int = 3
    pairs: int = 100
    steps: int = 100
    least: float = 0.6
    limits: Limits = field(default_factory=Limits)
    ask: int = 0
    word_budget: float = 0.1
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """Where the rounds ended: the run to keep, its number, and why it was not the last of those asked for."""

    folder: RunFolder
    number: int
    reason: str


@dataclass
class Onlooker:
    """What a front end sees; what a callback raises ends the rounds, and a later call goes on from there."""

    stage: OnStageProgress = lambda stage, done, total: None
    step: Callable[[int, StepReport], None] = lambda number, report: None
    drawn: Callable[[int, int, int], None] = lambda number, done, total: None  # round, images, of all
    checked: Callable[[int, Check], None] = lambda number, check: None
    note: Callable[[str], None] = lambda text: None


class Course:
    """The rounds of one job.

    Args:
        job: of the first round, on the person's clicks; unpaired images serve as well.
        paint: draws the images of a round.
        asker: asks for fresh clicks between rounds, where `rounds.ask` wants some.
    """

    def __init__(
        self,
        job: Job,
        rounds: Rounds,
        paint: Painter,
        onlooker: Onlooker | None = None,
        asker: Asker | None = None,
    ) -> None:
        self.job = replace(job, scan=job.scan or scan_folder(job.pairs))
        self.rounds, self.paint, self.onlooker = rounds, paint, onlooker or Onlooker()
        self.asker, self.place = asker, job.out / ROUNDS

    def run(self) -> Ended:
        """Train as many rounds as were asked for, or until the guard ends them.

        Raises:
            DspoError: an input is wrong, or a round cannot be trained or written; finished rounds are kept.
        """
        if (found := self.ended()) is not None:
            return found
        kept, number = self._train(1, self.job), 1
        if self.rounds.count == 1:
            return Ended(kept, 1, "")
        self._claim()
        before = kept
        with _held(self.job) as (source, model):
            side, clicks = self.job.config.data.resolution, comparisons_of(self._scan)
            examiner = Examiner(model, side, clicks, self._prompts, self.place / "clicks")
            for upcoming in range(2, self.rounds.count + 2):  # the last one only checks what the last round drew
                folder = self.place / str(upcoming)
                images = self._draw(model, folder, kept, upcoming)
                vectors, known = examiner.vectors(images), examiner.known
                answers = self._ask(known, folder, images, vectors, upcoming)
                check = examiner.check(images, vectors)
                files.write_json(folder / "check.json", check.to_dict())
                self.onlooker.checked(number, check)
                if reason := check.broken(self.rounds.limits):
                    return self._ended(before, max(1, number - 1), reason)
                if upcoming > self.rounds.count:
                    break
                labels = labelled(known.head, vectors, self._prompts, least=self.rounds.least, most=self.rounds.pairs)
                if len(labels) < _FEWEST:
                    return self._ended(kept, number, f"the taste model was sure of {len(labels)} pairs only")
                if not (folder / "pairs" / TABLE).exists():
                    rows = _with_clicks(labels, answers)
                    write_round(folder / "pairs", images, self._prompts, rows, self._scan.pairs)
                job = self._round(source, folder, kept, upcoming)
                before, kept, number = kept, self._train(upcoming, job), upcoming
        return self._ended(kept, number, "")

    def ended(self) -> Ended | None:
        """Where an earlier call ended that asked for as many rounds."""
        told = files.read_json_object(self.place / ENDING)
        if told.get("asked") != self.rounds.count or not self._folder(told["round"]).result.exists():
            return None
        return Ended(self._folder(told["round"]), told["round"], told["reason"])

    def _folder(self, number: int) -> RunFolder:
        return run_of_round(self.job.out, number)

    def _claim(self) -> None:
        """
        Raises:
            RunError: the rounds of this run were begun in another way.
        """
        asked = {key: value for key, value in asdict(self.rounds).items() if key not in ("count", "limits")}
        known = files.read_json_object(self.place / BEGUN)
        if known and known != asked:
            key = next(key for key in asked if known.get(key) != asked[key])
            raise RunError(
                f"{self.place}: these rounds were begun with other settings: `{key}` was {known.get(key)!r} and is "
                f"{asked[key]!r}; set it back, or choose a new folder for the run"
            )
        files.write_json(self.place / BEGUN, asked)
        (self.place / ENDING).unlink(missing_ok=True)  # of a call that asked for another number

    def _round(self, source: ModelSource, folder: Path, kept: RunFolder, number: int) -> Job:
        own = self.job.config.loss.word_budget
        held = {} if own is not None or not any(self._scan.prompts) else {"loss.word_budget": self.rounds.word_budget}
        config = _changed(self.job.config, {**held, **self.rounds.changes, "steps": self.rounds.steps})
        out = self._folder(number).folder
        # the state that the first round went on from, if any, is not this round's
        job = replace(self.job, model=source, cache=encodings_of(self.job), config=config, scan=None, start=None)
        taste = RunFolder(self.job.out).taste  # of the clicks; the pairs of a round are labelled by a model of it
        job = replace(job, taste=taste if taste.exists() else None)
        return replace(job, pairs=folder / "pairs", out=out, refine=kept.result)

    def _train(self, number: int, job: Job) -> RunFolder:
        folder = RunFolder(job.out)
        if not folder.completed(job.config.steps):
            with open_session(job, self.onlooker.stage) as session:
                for report in session.reports():
                    self.onlooker.step(number, report)
        return folder

    @property
    def _scan(self) -> Scan:
        assert self.job.scan is not None
        return self.job.scan

    @cached_property
    def _prompts(self) -> list[str]:
        """Of a round's images: each prompt's follow each other, and all prompts have equally many, at least two.

        Of more prompts than pairs, some are left out.
        """
        texts = list(dict.fromkeys(self._scan.prompts))
        if len(texts) > self.rounds.pairs:  # the same in every round, or they would differ by more than the LoRA
            order = torch.randperm(len(texts), generator=draws.generator(self.job.config.seed, "prompts of rounds"))
            texts = [texts[row] for row in sorted(order[: self.rounds.pairs].tolist())]
        each = max(2, -(-2 * self.rounds.pairs // len(texts)))
        return [text for text in texts for _ in range(each)]

    def _draw(self, model: Model, folder: Path, kept: RunFolder, number: int) -> list[Path]:
        """The images that the LoRA drew, or those of an earlier call."""
        table, prompts = folder / "drawn" / "drawn.json", self._prompts
        first = _FIRST_SEED + number * len(prompts)
        seeds = list(range(first, first + len(prompts)))
        places = [folder / "drawn" / f"{seed - _FIRST_SEED:04d}.png" for seed in seeds]
        if table.exists() and all(place.exists() for place in places):
            return places
        weights = model.read_lora(kept.result).weights

        def tell(done: int) -> None:
            self.onlooker.drawn(number, done, len(prompts))

        with torch.no_grad(), model.training(checkpointing=False), applied(model.network, weights):
            drawn = self.paint(model, prompts, seeds, tell)
        write_drawn(folder / "drawn", drawn, seeds[0] - _FIRST_SEED)
        files.write_json(table, {"lora": kept.result.name, "prompts": prompts, "seeds": seeds})
        return places

    def _ask(
        self, known: Knowledge, folder: Path, images: Sequence[Path], vectors: np.ndarray, number: int
    ) -> list[dict[str, Any]]:
        """Fresh clicks on a round's images, from which the head is fit anew."""
        if self.asker is None or not self.rounds.ask or number > self.rounds.count:
            return []
        place = folder / "answers.json"
        if (answers := answered(place)) is None:
            questions = questions_of(known.head, vectors, self._prompts, self.rounds.ask)
            answers = keep_answers(place, questions, self.asker(number, questions, images), known.head, vectors)
            if (right := share_right(answers)) is not None:
                self.onlooker.note(f"the taste model had foretold {right:.0%} of {len(answers)} fresh clicks")
        known.learn(answers, images, vectors)
        return answers

    def _ended(self, kept: RunFolder, number: int, reason: str) -> Ended:
        files.write_json(self.place / ENDING, {"round": number, "reason": reason, "asked": self.rounds.count})
        if reason:
            self.onlooker.note(f"round {number} is kept: {reason}")
        return Ended(kept, number, reason)


@dataclass(frozen=True)
class _Loaded:
    """Implements `ModelSource` for a model that is loaded already."""

    model: Model

    def load(self, config: TrainConfig, precision: str, device: torch.device) -> Model:
        return self.model


@contextmanager
def _held(job: Job) -> Iterator[tuple[ModelSource, Model]]:
    """The model, loaded once for all rounds."""
    with accelerator(job.config.device, job.config.precision) as (process, precision):
        model = job.model.load(job.config, precision, process.device)
    yield _Loaded(model), model


def _changed(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    values = nested(changes, config.to_dict())
    values["optim"]["warmup"] = min(values["optim"]["warmup"], int(WARM_UP * values["steps"]))
    return from_dict(values)


def _with_clicks(labels: Sequence[Label], answers: Sequence[Mapping[str, Any]]) -> list[Label]:
    """Fresh clicks without doubt, in place of what the taste model says of the same two images."""
    decided = [answer for answer in answers if answer["target"] != 0.5]
    rows = [(answer["first"], answer["second"])[:: 1 if answer["target"] > 0.5 else -1] for answer in decided]
    known = {frozenset((answer["first"], answer["second"])) for answer in answers}
    others = [label for label in labels if frozenset((label.winner, label.loser)) not in known]
    return [*others, *(Label(winner, loser, 0.0) for winner, loser in rows)]

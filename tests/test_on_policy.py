"""Steps that the policy draws, ranked against others from the same state."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import FakeDenoiser
from tiny_runs import config, train_and_cut, write_base, write_opinions, write_pairs
from torch import Tensor
from torch.distributions import Normal

from dspo_train import objectives
from dspo_train.cli.training import read_config
from dspo_train.config import from_names
from dspo_train.config.stepwise import METHODS, StepwiseSpec
from dspo_train.data.bank import Bank
from dspo_train.data.batch import Batch
from dspo_train.data.on_policy import Drawing, OnPolicySource, window
from dspo_train.exceptions import ConfigError, ModelError
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.denoiser import Denoiser
from dspo_train.models.guided import Guided
from dspo_train.models.process import Flow
from dspo_train.models.transitions import times, transition
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.job import Job, Start
from dspo_train.runs.presets import configure
from dspo_train.runs.session import open_session
from dspo_train.stepwise.scoring import slope_of
from dspo_train.taste.model import load_taste
from dspo_train.training.forward import pair_errors

TINY = {
    **{"steps": 4, "batch_size": 2, "save_every": 2, "precision": "fp32", "device": "cpu", "lora.rank": 2},
    **{"optim.lr": 1e-2, "data.resolution": 64, "data.bucket_step": 16, "objective": "diffusion_dpo"},
    **{"stepwise.steps": 6, "stepwise.trained": 2, "stepwise.guidance": 1.0},
}

OWN_STEPS = ["stepwise.method=spo"]  # as `--set` takes it


@dataclass(frozen=True)
class Brightness:
    """Likes high values in the first channel."""

    odds: float = 1.0

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        return self.odds**-1 * clean[:, 0].mean((1, 2))

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        return slope_of(lambda latents: self.score(latents, prompts, conditioning), clean)


class Prompted(FakeDenoiser):
    """Answers by the prompt too, and in float64 where it is asked in that."""

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        weight = self.weight + self.delta if self.active else self.weight
        words = conditioning.tensors["text"].to(noisy.dtype).mean((1, 2)).view(-1, 1, 1, 1)
        return torch.einsum("oc,nchw->nohw", weight.to(noisy.dtype), noisy) + words


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_base(folder / "base")
    write_pairs(folder / "pairs")
    return folder


def job(inputs: Path, out: Path, pairs: str = "pairs", **changes: Any) -> Job:
    settings = from_names({**TINY, "stepwise.method": "tailorpo", **changes})
    return Job(DiffusersSource(inputs / "base"), inputs / pairs, out, settings, cache=inputs / "cache")


@pytest.fixture(scope="module")
def rows(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> OnPolicySource:
    """Of a set of pairs in two shapes, to be bound to any policy."""
    with open_session(job(inputs, tmp_path_factory.mktemp("rows") / "run")) as session:
        found = session.data.source
    assert isinstance(found, OnPolicySource)
    return found


def source(rows: OnPolicySource, policy: Any = None, scorer: Any = None, **settings: Any) -> OnPolicySource:
    spec = from_names({**TINY, "stepwise.method": "tailorpo", **settings}).stepwise
    return replace(rows, spec=spec).by(Drawing(policy or FakeDenoiser(), scorer or Brightness(), None, "cpu"))


def test_the_loss_is_that_of_the_log_probabilities_of_both_steps():
    """-log sigmoid(beta (log p_w - log p_w' - log p_l + log p_l')), mean over elements: value and gradient, float64;
    and the margin is (x_w - x_l) (mean - mean') / std^2, whose quadratic terms cancel."""
    policy = FakeDenoiser()
    policy.delta = torch.nn.Parameter(0.1 * torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double())
    policy.weight = policy.weight.double()
    levels = times(policy.process, 20)
    move, now = transition(policy.process, levels[8], levels[9], 1.0), levels[8]
    state, noise_w, noise_l = torch.randn((3, 2, 4, 4, 4), generator=torch.Generator().manual_seed(2)).double()
    nothing = Conditioning({"text": torch.zeros(2, 1, 1)})
    with torch.no_grad():
        mean = move.mean(state, policy.predict(state, now.t.repeat(2), nothing))
    winner, loser = mean + move.std * noise_w, mean + move.std * noise_l
    batch = Batch(
        state.repeat(2, 1, 1, 1),
        torch.cat([move.target(state, winner), move.target(state, loser)]),
        now.t.repeat(4),
        nothing.twice(),
        scale=torch.full((2,), move.likelihood, dtype=torch.float64),
        twins=True,
    )
    beta = 3.0
    errors = pair_errors(policy, batch)
    loss = objectives.bind("diffusion_dpo", {"sharpness": beta})(errors).sum()
    (gradient,) = torch.autograd.grad(loss, policy.delta, retain_graph=True)

    def means() -> Tensor:
        return move.mean(state, policy.predict(state, now.t.repeat(2), nothing))

    own = means()
    with torch.no_grad(), policy.reference():
        reference = means()
    ratios = [
        (Normal(own, move.std).log_prob(x) - Normal(reference, move.std).log_prob(x)).flatten(1).mean(1)
        for x in (winner, loser)
    ]
    expected = -torch.nn.functional.logsigmoid(beta * (ratios[0] - ratios[1])).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, policy.delta, retain_graph=True)[0])
    closed = ((winner - loser) * (own - reference)).flatten(1).mean(1) / move.std**2
    torch.testing.assert_close(errors.margin, closed)


def test_at_the_reference_the_gradient_points_from_the_loser_to_the_winner():
    """-beta / 2 of the mean's Jacobian times (x_w - x_l) / std^2: here on the prediction itself."""
    policy, spec = FakeDenoiser(), StepwiseSpec(method="tailorpo")
    levels = times(policy.process, 20)
    move = transition(policy.process, levels[8], levels[9], spec.eta)
    prediction = torch.zeros(1, 4, 2, 2, requires_grad=True)
    state, winner, loser = torch.randn((3, 1, 4, 2, 2), generator=torch.Generator().manual_seed(0))
    targets = move.target(state, winner), move.target(state, loser)
    margin = [((prediction - target) ** 2).mean() * move.likelihood for target in targets]
    reference = [error.detach() for error in margin]
    loss = -torch.nn.functional.logsigmoid(-((margin[0] - reference[0]) - (margin[1] - reference[1])))
    (slope,) = torch.autograd.grad(loss, prediction)
    expected = -0.5 * move.of_prediction * (winner - loser) / move.std**2 / prediction.numel()
    torch.testing.assert_close(slope, expected)


def test_a_step_is_the_same_each_time_and_another_for_other_weights(rows):
    first = list(source(rows).step(3))
    again = list(source(rows).step(3))
    assert len(first) == len(again) > 0
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.noisy, other.noisy) and torch.equal(one.target, other.target)
    other = list(source(rows, FakeDenoiser(seed=1)).step(3))
    assert not torch.equal(first[-1].noisy, other[-1].noisy)
    assert not torch.equal(first[0].noisy, next(source(rows).step(4)).noisy)


def test_processes_share_the_images_of_a_step(rows):
    whole = replace(rows.rows, share=replace(rows.rows.share, rows=4, at_once=4))
    halves = [replace(rows.rows, share=replace(rows.rows.share, rows=2, process=n, processes=2)) for n in (0, 1)]

    def states(part: Any) -> set[tuple[float, ...]]:
        found = source(replace(rows, rows=part))
        return {tuple(row.flatten()[:3].tolist()) for batch in found.step(0) for row in batch.noisy[: len(batch)]}

    assert states(halves[0]) | states(halves[1]) == states(whole)
    assert not states(halves[0]) & states(halves[1])
    per_step = {source(replace(rows, rows=part)).per_step for part in (whole, *halves)}
    assert per_step == {4 * 2}


def test_winners_lead_to_what_is_scored_higher(rows):
    policy, scorer = FakeDenoiser(), Brightness()
    for batch in source(rows, policy, **{"stepwise.pool": 4}).step(0):
        assert batch.twins and batch.scale is not None and (batch.scale > 0).all()
        size, now = len(batch), batch.t[0]
        levels = times(policy.process, 6)
        number = next(n for n, level in enumerate(levels) if level.t == now)
        move = transition(policy.process, levels[number], levels[number + 1], 1.0)
        children = move.of_state * batch.noisy + move.of_prediction * batch.target
        signal, spread = levels[number + 1].signal, levels[number + 1].spread
        clean = (children - spread * policy.predict(children, batch.t, batch.conditioning)) / signal
        scores = scorer.score(clean, [], batch.conditioning)
        assert (scores[:size] > scores[size:]).all()


@pytest.mark.parametrize("rule", ["best", "worst", "random"])
def test_the_image_goes_on_from_the_child_that_is_asked_for(rows, rule):
    """Trained at every step, the state of a step is the child that was chosen at the one before."""
    settings = {"stepwise.trained": 5, "stepwise.next": rule, "stepwise.pool": 2, "batch_size": 1}
    one = replace(rows.rows, share=replace(rows.rows.share, rows=1, at_once=1))
    policy = FakeDenoiser()
    drawn = source(replace(rows, rows=one), policy, **settings)
    drawn = replace(drawn, spec=replace(drawn.spec, method="spo", rollout_steps=1, gap=0.0))
    levels, picks = times(policy.process, 6), []
    batches = [batch for step in range(6) for batch in [*drawn.step(step), None]]
    for batch, after in pairwise(batches):
        if batch is None or after is None:
            continue
        number = next(n for n, level in enumerate(levels) if level.t == batch.t[0])
        move = transition(policy.process, levels[number], levels[number + 1], 1.0)
        children = move.of_state * batch.noisy + move.of_prediction * batch.target
        near = [torch.allclose(child, after.noisy[0], atol=1e-4) for child in children]
        assert sum(near) == 1
        picks.append("best" if near[0] else "worst")
    assert len(picks) >= 12
    assert set(picks) == ({rule} if rule != "random" else {"best", "worst"})


def test_the_better_state_is_pushed_along_its_scores_gradient(rows):
    """By half of the length of its noise; the score rises, the loser stays."""
    plain, pushed = (list(source(rows, **{"stepwise.push": push}).step(0)) for push in (0.0, 0.5))
    batch, other = plain[0], pushed[0]
    size, policy = len(batch), FakeDenoiser()
    assert torch.equal(batch.target[size:], other.target[size:])
    levels = times(policy.process, 6)
    number = next(n for n, level in enumerate(levels) if level.t == batch.t[0])
    move = transition(policy.process, levels[number], levels[number + 1], 1.0)
    moved = move.of_prediction * (other.target - batch.target)[:size]
    mean = move.mean(batch.noisy[:size], policy.predict(batch.noisy[:size], batch.t[:size], batch.conditioning[:size]))
    own = move.of_state * batch.noisy[:size] + move.of_prediction * batch.target[:size] - mean.detach()
    lengths = [part.flatten(1).norm(dim=1) for part in (moved, own)]
    torch.testing.assert_close(lengths[0], 0.5 * lengths[1], rtol=1e-4, atol=1e-5)
    after = levels[number + 1]

    def scored(child: Tensor) -> Tensor:
        answer = policy.predict(child, batch.t[:size], batch.conditioning[:size])
        return Brightness().score((child - after.spread * answer) / after.signal, [], batch.conditioning)

    assert (scored(mean + own + moved) > scored(mean + own)).all()


def test_rows_without_a_clear_order_count_for_nothing(rows):
    """tanh(d / 2) of score differences d below about 0.02: a gap of 0.9 leaves none, and 0 leaves all."""
    assert all((batch.scale == 0).all() for batch in source(rows, **{"stepwise.gap": 0.9}).step(0))

    class Indifferent(Brightness):
        def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
            return torch.zeros(len(clean))

    drawn = source(rows, scorer=Indifferent())
    assert all((batch.scale == 0).all() for batch in drawn.step(0))
    assert drawn.figures == {"reward": 0.0, "ranked": 0.0}


def test_targets_at_a_reach_lie_on_either_side_of_the_prediction(rows):
    """GradSPO: prediction +- reach spread (e_w - e_l) / 2, signed so that the winner's leads to the winner."""
    policy = FakeDenoiser()
    for batch in source(rows, policy, **{"stepwise.reach": 0.5}).step(0):
        size = len(batch)
        answer = policy.predict(batch.noisy[:size], batch.t[:size], batch.conditioning[:size])
        torch.testing.assert_close(batch.target[:size] - answer, answer - batch.target[size:], rtol=1e-4, atol=1e-5)
        assert batch.scale is not None and (batch.scale == 1).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_longer_rollout_judges_by_a_later_guess(rows, steps):
    """A policy that predicts no noise at all: x0 is x / signal at once, and the same after any number of steps."""

    class Silent(FakeDenoiser):
        def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return 0 * super().predict(noisy, t, conditioning)

    policy = Silent()
    found = list(source(rows, policy, **{"stepwise.rollout_steps": steps}).step(0))
    expected = list(source(rows, Silent()).step(0))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.target, other.target)
    assert policy.calls > 0


def test_guidance_adds_to_what_no_words_predict():
    denoiser, noisy = Prompted(), torch.randn(2, 4, 2, 2)
    words, none = Conditioning({"text": torch.ones(2, 3, 1)}), Conditioning({"text": torch.zeros(1, 5, 1)})
    t = torch.tensor([5, 5])
    found = Guided(denoiser, 3.0, none).predict(noisy, t, words)
    empty = denoiser.predict(noisy, t, Conditioning({"text": torch.zeros(2, 5, 1)}))
    torch.testing.assert_close(found, empty + 3.0)  # 3 (1 - 0)


def test_the_window_of_trained_steps():
    """Of six steps at 1, 5/6, 4/6, 3/6, 2/6 and 1/6 of the schedule, less one of 1000 times; the last has no noise."""
    process, data = FakeDenoiser().process, from_names({}).data
    assert window(process, StepwiseSpec(method="tailorpo", steps=6), data) == [2, 3, 4]
    assert window(process, StepwiseSpec(method="spo", steps=6), data) == [2, 3, 4]
    assert window(process, StepwiseSpec(method="spo", steps=6), replace(data, most_noise=0.4)) == [4]
    assert window(Flow(), StepwiseSpec(method="spo", steps=6), data) == [2, 3, 4]
    few = StepwiseSpec(method="tailorpo", steps=2)
    told = "between 0.1 and 0.75 of the schedule, but the steps of an image begin at 1.00, the last one aside; draw"
    with pytest.raises(ConfigError, match=f"tailorpo trains {told} with more of them$"):
        window(process, few, data)
    with pytest.raises(ConfigError, match=r"widen `data.least_noise` and `data.most_noise`$"):
        window(process, few, replace(data, most_noise=0.4))


def test_the_window_is_the_same_for_a_ddpm_and_a_flow():
    """Of twenty steps those at 0.8 to 0.1: sixteen less the last, at 0.05, is fifteen of SPO's 0 to 0.8."""
    data = from_names({}).data
    for process in (FakeDenoiser().process, Flow()):
        assert window(process, StepwiseSpec(method="spo"), data) == list(range(4, 19))
        assert len(window(process, StepwiseSpec(method="spo"), data)) == METHODS["spo"].trained
        assert window(process, StepwiseSpec(method="tailorpo"), data) == list(range(5, 19))


def test_what_is_given_replaces_the_methods_own():
    assert StepwiseSpec(method="spo").plan == METHODS["spo"]
    assert StepwiseSpec(method="spo", next="worst", pool=8).plan == replace(METHODS["spo"], next="worst", pool=8)
    with pytest.raises(ConfigError, match=r"`stepwise.pool` needs a method"):
        StepwiseSpec(pool=8)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"stepwise.method": "tailorpo_g"}, {"loss.word_budget": 0.1}])
def test_a_run_on_its_own_steps_resumes_to_the_bit(inputs, tmp_path, settings):
    # "taste" is also what a file of the run is called
    whole, cut = job(inputs, tmp_path / "whole" / "taste", **settings), tmp_path / "cut" / "taste"
    cut.parent.mkdir()
    reports = train_and_cut(whole, 2, cut)
    assert all({"reward", "watched", "ranked"} <= set(report.flat()) for report in reports)
    assert any(report.grad_norm > 0 for report in reports)
    shutil.rmtree(inputs / "pairs" / ".dspo_taste", ignore_errors=True)
    with open_session(replace(whole, out=cut)) as session:
        resumed = list(session.reports())
    assert [report.step for report in resumed] == [3, 4]
    assert [report.loss for report in resumed] == [report.loss for report in reports[2:]]
    assert RunFolder(cut).result.read_bytes()[-4096:] == RunFolder(whole.out).result.read_bytes()[-4096:]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"stepwise.rollout_steps": 3, "moving_reference": 0.5}])
def test_checkpointing_changes_nothing_of_what_is_drawn_or_pushed(inputs, tmp_path, more):
    """The push goes back through the network with its adapters and, for the taste, without them."""
    found = []
    for checkpointing in (False, True):
        changes = {"stepwise.method": "tailorpo_g", "gradient_checkpointing": checkpointing, "steps": 3, **more}
        with open_session(job(inputs, tmp_path / str(checkpointing) / "run", **changes)) as session:
            found.append([report.flat() for report in session.reports()])
    for plain, checkpointed in zip(*found, strict=True):
        for name in ("loss", "margin", "reward", "watched", "grad_norm"):
            assert checkpointed[name] == pytest.approx(plain[name], rel=1e-4, abs=1e-6), name


def test_a_gap_is_a_matter_of_odds_whatever_a_scorer_counts_in(rows):
    """At a hundredth of the scale, and a hundred times the odds, the same rows count."""

    def counted(odds: float) -> list[float]:
        drawn = source(rows, scorer=Brightness(odds), **{"stepwise.method": "spo", "stepwise.gap": 0.3})
        scales = [batch.scale for step in range(4) for batch in drawn.step(step)]
        return [float(one) for scale in scales if scale is not None for one in scale]

    found = counted(1.0)
    assert counted(100.0) == found
    assert 0.0 in found and any(found)


def test_a_gap_that_leaves_nothing_is_told(inputs, tmp_path):
    task = job(inputs, tmp_path / "run", **{"stepwise.gap": 0.99, "steps": 6})
    with open_session(task) as session:
        assert [report.flat()["ranked"] for report in session.reports()] == [0.0] * 6
        told = [note for note in session.notes.texts if "no two next states were told apart" in note]
    assert len(told) == 1 and told[0].startswith("step 5: ")


@pytest.mark.slow
def test_a_run_that_goes_on_is_ranked_by_the_taste_of_the_run_before(inputs, tmp_path):
    first = job(inputs, tmp_path / "first", steps=2)
    with open_session(first) as session:
        assert [report.step for report in session.reports()] == [1, 2]
    kept = RunFolder(first.out).taste
    taste = load_taste(kept)
    replace(taste, head=replace(taste.head, weights=-taste.head.weights)).save(kept)
    longer = replace(job(inputs, tmp_path / "second", steps=3), start=Start(first.out, 2))
    for _ in ("begun", "resumed"):
        with open_session(longer) as session:
            assert session.steered is not None and session.steered.taste is not None
            assert (session.steered.taste.head.weights == -taste.head.weights).all()
    third = replace(job(inputs, tmp_path / "third", steps=3), taste=kept)  # as a further round has it
    with open_session(third) as session:
        assert session.steered is not None and session.steered.taste is not None
        assert (session.steered.taste.head.weights == -taste.head.weights).all()


def test_training_on_what_is_scored_raises_the_score(rows):
    """How strong the first channel is, of images with seeds that were not trained on: a policy that can only mix
    channels learns to raise it."""

    class Contrast(Brightness):
        def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
            return clean[:, 0].square().mean((1, 2))

    policy = FakeDenoiser()
    drawn, loss = source(rows, policy, Contrast(), **{"stepwise.pool": 4}), objectives.bind("ipo", {"tau": 0.5})
    optimiser = torch.optim.Adam([policy.delta], lr=3e-3)

    def reward() -> float:
        assert list(drawn.step(1000))
        return drawn.figures["reward"]

    before = reward()
    for step in range(30):
        for batch in drawn.step(step):
            loss(pair_errors(policy, batch)).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert reward() > 1.1 * before


def test_held_out_pairs_are_measured_as_ever(inputs, tmp_path):
    task = job(inputs, tmp_path / "run", **{"held_out.share": 0.5, "steps": 1})
    with open_session(task) as session:
        assert isinstance(session.data.bank, Bank)
        (report,) = list(session.reports())
        assert session.steered is not None and session.steered.taste is not None
        assert session.steered.taste.trained_on == session.data.size == 3  # of six, by whole prompts
    assert report.held_out


def test_swapped_labels_turn_the_taste_round(inputs, tmp_path):
    scores, judged = [], []
    for labels in ("given", "swapped"):
        with open_session(job(inputs, tmp_path / labels / "run", labels=labels)) as session:
            assert session.steered is not None and session.steered.taste is not None
            scores.append(session.steered.taste.head.weights)
            judged.append(session.steered.taste.judged)
            low, high = judged[-1]
            assert low < 0 < high == session.monitor.ceiling  # of images whose mean score is 0
            opposite = "the opposite of " if labels == "swapped" else ""
            told = f"steps are ranked by {opposite}your taste. Too few clicks"
            assert any(told in note for note in session.notes.texts)
    assert (scores[0] == -scores[1]).all() and scores[0].any()
    assert judged[1] == (-judged[0][1], -judged[0][0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stepwise.scorer": "pretty"}, "unknown scorer 'pretty'; known:"),
        ({"stepwise.method": "tailorpo_g", "stepwise.scorer": "further_left"}, "`stepwise.push` moves along"),
        ({"stepwise.watch": "pretty"}, "unknown scorer 'pretty'"),
        ({"labels": "swapped", "stepwise.scorer": "further_left"}, "`labels` swapped turns round what the pairs say"),
        ({"stepwise.scorer": "cautious"}, "unknown scorer 'cautious'; known: taste, pickscore"),
        ({"stepwise.watch": "taste"}, "'taste' ranks the steps and is to watch"),
        ({"data.flip": True}, "`data.flip` is about the pairs' images"),
        ({"data.caption_dropout": 0.1}, "`data.caption_dropout` is about the pairs' images"),
        ({"data.crop": "random"}, "`data.crop` is about the pairs' images"),
        ({"loss.unit": "words"}, "margins in what words do are for errors of images"),
    ],
)
def test_what_cannot_rank_is_told_before_anything_is_loaded(inputs, tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told), open_session(job(inputs, tmp_path / "run", **changes)):
        pass


def test_a_scorer_that_is_not_here_is_told_before_anything_is_loaded(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    task = job(inputs, tmp_path / "run", **{"stepwise.scorer": "pickscore"})
    with pytest.raises(ModelError, match="get it with 'hf download yuvalkirstain/PickScore_v1"), open_session(task):
        pass
    assert not (tmp_path / "run").exists()


def test_a_damaged_taste_says_what_to_do(inputs, tmp_path):
    task = job(inputs, tmp_path / "run", steps=3)
    with open_session(task) as session:
        next(session.reports())
    RunFolder(task.out).taste.write_text("not a taste")
    with (
        pytest.raises(ConfigError, match="delete it, and the taste is learned from the pairs again"),
        open_session(task),
    ):
        pass
    RunFolder(task.out).taste.unlink()
    with open_session(task) as session:
        assert [report.step for report in session.reports()] == [2, 3]


def test_unpaired_images_are_refused(inputs, tmp_path):
    write_opinions(tmp_path / "opinions")
    for objective in ("sft", "diffusion_dpo"):
        task = replace(job(inputs, tmp_path / "run", objective=objective), pairs=tmp_path / "opinions")
        with pytest.raises(ConfigError, match="draws the prompts of pairs"), open_session(task):
            pass


def test_a_denoiser_with_guidance_is_a_denoiser():
    guided: Denoiser = Guided(FakeDenoiser(), 2.0, Conditioning({"text": torch.zeros(1, 1, 1)}))
    with guided.base():
        assert guided.reference_is_base
    assert guided.process.prediction == "epsilon"
    assert config().stepwise.method == "off"


def test_own_steps_are_trained_by_dpo_unless_another_objective_is_chosen():
    for found in (configure("balanced", 512, {"stepwise.method": "spo"}), read_config(None, None, OWN_STEPS)):
        assert (found.objective, dict(found.objective_args)) == ("diffusion_dpo", {"sharpness": 10.0})
    assert configure("balanced", 512, {"stepwise.method": "spo", "objective": "ipo"}).objective == "ipo"
    assert read_config(None, "dspo", OWN_STEPS).objective == "dspo"
    assert read_config(None, None, []).objective == configure("balanced", 512, {}).objective == "dspo"


def test_what_is_given_is_not_replaced():
    spo: dict[str, Any] = {"stepwise.method": "spo"}
    assert dict(configure("balanced", 512, {**spo, "objective": "diffusion_dpo"}).objective_args) == {"sharpness": 10.0}
    assert dict(configure("balanced", 512, {**spo, "objective": "diffusion_dpo"}, 30).objective_args)["sharpness"] == 30
    assert configure("balanced", 512, {**spo, "objective": "dspo"}).objective == "diffusion_dpo"  # the node's default
    chosen = configure("balanced", 512, {**spo, "objective": "dspo"}, 30)  # a number for it says that it is meant
    assert chosen.objective == "dspo" and 30 in chosen.objective_args.values()
    for name in ("objective_args.sharpness", "loss.sharpness"):
        found = read_config(None, None, [*OWN_STEPS, f"{name}=500"])
        objectives.check_objective(found)
        assert objectives.arguments_in(found) == {"sharpness": 500}
    assert dict(read_config(None, "diffusion_dpo", OWN_STEPS).objective_args) == {"sharpness": 10.0}
    with pytest.raises(ConfigError, match="stepwise: expected a group of settings, got 'tailorpo'"):
        read_config(None, None, ["stepwise=tailorpo"])


def test_a_setting_without_a_method_is_refused():
    for setting in ("pool=8", "scorer=pickscore", "watch=aesthetic", "steps=30", "guidance=2", "eta=0.5"):
        with pytest.raises(ConfigError, match=r"`stepwise.\w+` needs a method"):
            read_config(None, None, [f"stepwise.{setting}"])

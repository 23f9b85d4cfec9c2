"""A taste fitted to comparisons: the maximum of the posterior, and figures that have not seen what they foretell."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from dspo_train.evaluate.winrate import wilson
from dspo_train.taste import assessment, crossval, logistic, span
from dspo_train.taste.comparisons import Comparisons
from dspo_train.taste.head import Head, fit_head, mutual_information


def comparisons(target: np.ndarray, per_prompt: int = 2) -> Comparisons:
    """Images 0 and 1, 2 and 3, and so on."""
    pairs = len(target)
    prompts = tuple(f"prompt {row // per_prompt}" for row in range(pairs))
    rows = np.arange(2 * pairs).reshape(pairs, 2)
    of_images = tuple(prompt for prompt in prompts for _ in (0, 1))
    names = tuple(f"{row}.png" for row in range(2 * pairs))
    return Comparisons(
        names, rows[:, 0], rows[:, 1], np.asarray(target, float), prompts, np.ones(pairs, bool), of_images
    )


def world(pairs: int, features: int = 6, strength: float = 2.0, seed: int = 0) -> tuple[Comparisons, np.ndarray]:
    """A person who likes the first feature, with a sigmoid's noise; no strength: who answers by the coin."""
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(2 * pairs, features)).astype(np.float32)
    logits = strength * (found[0::2, 0] - found[1::2, 0])
    return comparisons((draw.random(pairs) < expit(logits)).astype(float)), found


def differences(head: Head, given: Comparisons, features: np.ndarray) -> np.ndarray:
    standard = (features - head.mean) / head.scale
    return standard[given.first] - standard[given.second]


def test_three_of_four_won_is_a_logit_of_log_three():
    """Without a prior to speak of, s(w) = 3/4 at the maximum."""
    won = np.array([1.0, 1.0, 1.0, 0.0])
    assert logistic.maximum(np.ones((4, 1)), won, 1e4)[0] == pytest.approx(math.log(3), abs=1e-6)


@pytest.mark.parametrize("features", [2, 90])
def test_at_the_weights_the_slope_of_the_posterior_is_zero(features: int):
    """sum (t - s(w d)) d = w / prior^2, with fewer features than comparisons and with more."""
    given, found = world(30, features)
    given = replace(given, target=np.where(np.arange(30) % 7 == 0, 0.5, given.target))
    head, _ = fit_head(given, found)
    rows = differences(head, given, found)
    slope = rows.T @ (given.target - expit(rows @ head.weights[0])) - head.weights[0] / head.prior**2
    assert np.abs(slope).max() < 1e-6 * np.abs(rows.T).sum(1).max()
    assert np.abs(head.weights[0]).max() > 0.01


def test_a_comparison_that_counts_twice_is_one_written_twice():
    draw = np.random.default_rng(0)
    rows, target = draw.normal(size=(5, 3)), np.array([1.0, 0.0, 1.0, 0.5, 0.0])
    counts = np.array([2.0, 1.0, 1.0, 3.0, 1.0])
    times = counts.astype(int)
    twice = logistic.maximum(np.repeat(rows, times, axis=0), np.repeat(target, times), 0.7)
    assert logistic.maximum(rows, target, 0.7, counts=counts) == pytest.approx(twice, abs=1e-8)


def test_ties_pull_towards_zero():
    """With a prior of sqrt(2), two wins have w / 2 = 2 s(-w); two ties more, w / 2 = 2 s(-w) - 2 (s(w) - 1/2)."""
    wins, ties = np.ones(2), np.array([1.0, 1.0, 0.5, 0.5])
    alone = float(logistic.maximum(np.ones((2, 1)), wins, math.sqrt(2))[0])
    tied = float(logistic.maximum(np.ones((4, 1)), ties, math.sqrt(2))[0])
    assert alone == pytest.approx(4 * expit(-alone))
    assert tied == pytest.approx(4 * (expit(-tied) - (expit(tied) - 0.5)))
    assert 0 < tied < alone


def test_the_two_orders_of_a_question_have_probabilities_that_sum_to_one():
    given, found = world(40)
    head, _ = fit_head(given, found)
    one, other = found[given.first], found[given.second]
    assert head.probability(one, other) + head.probability(other, one) == pytest.approx(np.ones(40))
    assert head.disagreement(one, other) == pytest.approx(head.disagreement(other, one))
    assert head.score(found) == pytest.approx(head.scores(found)[:, 0])
    assert head.scores(found).shape == (80, 17)


def test_the_opposite_answers_mirror_the_weights():
    given, found = world(40)
    head, known = fit_head(given, found)
    mirrored, same = fit_head(replace(given, target=1 - given.target), found)
    assert mirrored.weights == pytest.approx(-head.weights, abs=1e-6)
    assert (mirrored.temperature, mirrored.prior) == pytest.approx((head.temperature, head.prior))
    assert (same.accuracy, same.log_loss) == pytest.approx((known.accuracy, known.log_loss))


def test_features_written_twice_change_no_probability():
    """The prior's width follows the length of a difference, and all else is in the span of the images."""
    given, found = world(30)
    once, _ = fit_head(given, found)
    twice, _ = fit_head(given, np.concatenate([found, found], axis=1))
    one, other = found[given.first], found[given.second]
    doubled = twice.probability(np.concatenate([one, one], axis=1), np.concatenate([other, other], axis=1))
    assert doubled == pytest.approx(once.probability(one, other), abs=1e-5)


def test_more_clicks_tell_more_of_a_linear_taste():
    seen = [fit_head(*world(pairs, 40, seed=seed), members=0)[1].accuracy for seed in range(3) for pairs in (24, 240)]
    assert np.mean(seen[1::2]) > np.mean(seen[0::2]) + 0.1


def test_of_answers_by_the_coin_nothing_is_known():
    """Of 8 widths none is chosen with the answers that it is measured on: nothing is claimed in any of 6 sets."""
    known = [fit_head(*world(60, 200, strength=0.0, seed=seed), members=4)[1] for seed in range(6)]
    assert all(each.low < 0.5 < each.high for each in known)
    assert all(each.log_loss > 0.66 for each in known)
    assert np.mean([each.accuracy for each in known]) == pytest.approx(0.5, abs=0.1)
    assert all("not known yet" in each.text and each.more is None for each in known)


def test_where_the_fits_owe_as_much_to_chance_as_to_the_taste_half_of_the_evidence_counts():
    """75 of 100 right, each of a prompt of its own: Wilson at 100 answers, less for few prompts, or at 50."""
    target, prompts = np.tile([1.0, 1.0, 1.0, 0.0], 25), [str(row) for row in range(100)]
    same, unlike = np.ones((2, 100)), np.stack([np.ones(100), np.tile([1.0, -1.0], 50)])
    found = [
        assessment.assess(prompts, target, np.ones(100, bool), np.ones(100), half, np.full(100, 0.75))
        for half in (same, unlike)
    ]
    few = (1.959964 / 1.984217) ** 2  # of the normal's and Student's quantiles, at 99 degrees of freedom
    variance = 0.75 * 0.25 / 99  # of the mean of 100 answers
    for each, answers in zip(found, (1, 0.5), strict=True):
        expected = wilson(0.75, few * answers * 0.75 * 0.25 / variance)
        assert (each.low, each.high) == pytest.approx(expected, abs=1e-5)


def test_no_answer_is_foretold_with_its_own_help():
    """With all answers of one fold turned round, the scores foretold of that fold are the same to the bit."""
    given, found = world(40)
    folds = crossval.folds_of(given.prompt, 0)
    rows = span.span_of(given, found).rows
    turned = np.where(folds == 3, 1 - given.target, given.target)
    one, other = (
        crossval.foretell(crossval.Problem.of(rows, target, crossval.units_of(given.prompt)), folds, 3, 0)
        for target in (given.target, turned)
    )
    held = folds == 3
    assert (one.logits[:, held] == other.logits[:, held]).all() and (one.half[:, held] == other.half[:, held]).all()
    assert (one.logits[:, ~held] != other.logits[:, ~held]).any()


def test_folds_hold_whole_prompts_whatever_their_case_and_spacing():
    folds = crossval.folds_of(["a cat", "A  Cat", "a dog", "a fox", "a hen", "a dog "], 0)
    assert folds[0] == folds[1] and folds[2] == folds[5]
    assert len(set(folds.tolist())) == 4


@pytest.mark.parametrize(("pairs", "images"), [(4, 8), (9, 5)])
def test_coordinates_keep_every_inner_product(pairs: int, images: int):
    """Whether differences are fewer than images or not."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(images, 50)).astype(np.float32)
    first = draw.integers(images, size=pairs)
    given = replace(comparisons(np.ones(pairs)), first=first, second=(first + 1 + draw.integers(images - 1)) % images)
    found_span = span.span_of(given, found)
    standard = (found - found_span.mean) / found_span.scale
    rows = standard[given.first] - standard[given.second]
    assert found_span.rows @ found_span.rows.T == pytest.approx(rows @ rows.T)
    inside = draw.normal(size=(2, found_span.rows.shape[1]))
    assert rows @ found_span.weights(inside, found).T == pytest.approx(found_span.rows @ inside.T)


def test_of_very_many_comparisons_the_longest_directions_are_kept(monkeypatch: pytest.MonkeyPatch):
    """Of 40 comparisons in 3 directions that matter, 20 rows and 5 directions are enough to find the same taste."""
    draw = np.random.default_rng(0)
    given, _ = world(40)
    found = (draw.normal(size=(80, 3)) @ draw.normal(size=(3, 30)) + 1e-3 * draw.normal(size=(80, 30))).astype("f4")
    exact, _ = fit_head(given, found, members=0)
    monkeypatch.setattr(span, "_EXACT", 20)
    monkeypatch.setattr(span, "_WORK", 40 * 5**2)
    assert span.span_of(given, found).rows.shape == (40, 5)
    near, _ = fit_head(given, found, members=0)
    assert np.corrcoef(exact.score(found), near.score(found))[0, 1] > 0.99


def test_overconfident_logits_are_cooled():
    """Answers come true as s(z), but 3 z is foretold: the temperature is 3."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=4000) * 2
    answers = (draw.random(4000) < expit(logits)).astype(float)
    assert logistic.calibration(3 * logits, answers) == pytest.approx(3, rel=0.1)
    assert logistic.calibration(logits / 3, answers) == pytest.approx(1 / 3, rel=0.1)


def test_members_that_are_sure_of_opposite_answers_differ_by_one_bit():
    sure = np.array([[50.0, 1.0], [-50.0, 1.0]])
    assert mutual_information(sure) == pytest.approx([math.log(2), 0.0])


@pytest.mark.parametrize("pairs", [0, 1, 11])
def test_with_few_clicks_there_is_a_head_but_no_figure(pairs: int):
    given, found = world(pairs)
    head, known = fit_head(given, found)
    assert math.isnan(known.accuracy) and known.more is None and known.reliability == ()
    assert known.text == f"Too few clicks to say: {pairs} of about 20."
    assert np.isfinite(head.score(found)).all()


def test_one_prompt_alone_says_nothing_of_others():
    given, found = world(20)
    _, known = fit_head(replace(given, prompt=("a cat",) * 20), found)
    assert math.isnan(known.accuracy)
    assert "one prompt" in known.text


def test_only_what_was_asked_at_random_counts_in_the_accuracy():
    """The 30 answers that do not count are all wrong by the taste; the accuracy does not know of them."""
    given, found = world(60, 3, strength=6.0)
    counted = np.arange(60) < 30
    _, known = fit_head(replace(given, counted=counted), found)
    assert sum(count for _, _, count in known.reliability) == 30
    assert known.pairs == 60


def test_what_more_clicks_would_tell():
    """After n clicks a - b / sqrt(n): if twice the clicks gave 0.04, b / sqrt(n) is 0.0966, and two points more need
    n (1 - 0.02 / 0.0966)^-2 = 1.59 n clicks; of 100, 59 more."""
    more = assessment._more
    assert more(0.04, 0.01, 0.8, 100) == 60
    assert more(0.04, 0.05, 0.8, 100) is None  # by chance, perhaps
    assert more(0.005, 0.001, 0.8, 100) is None  # the curve ends below two points
    assert more(0.04, 0.01, 0.99, 100) is None  # and at 100% at the latest


def test_the_sentence_says_what_the_figures_do():
    target = np.tile([1.0, 1.0, 1.0, 0.0], 25)
    prompts = [f"p{row // 2}" for row in range(100)]
    score, half = np.ones(100), np.ones((2, 100))
    known = assessment.assess(prompts, target, np.ones(100, bool), score, half, np.full(100, 0.75))
    assert (known.accuracy, known.half_accuracy) == (0.75, 0.75)
    assert known.log_loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert known.reliability == ((0.75, 0.75, 100),)
    assert known.text.startswith("We know your taste to 75% (")
    assert known.text.endswith("more clicks would tell little more.")


def test_a_tenth_of_probabilities_is_told_by_its_likelier_side():
    """0.9 won, and 0.05 lost: the likelier side came true at (0.9 + 0.95) / 2; 0.55 lost: it did not."""
    found = assessment.reliability_of(np.array([0.9, 0.05, 0.55]), np.array([True, False, False]))
    assert found == ((0.55, 0.0, 1), (pytest.approx(0.925), 1.0, 2))


def test_features_that_are_not_those_of_the_images_are_refused():
    given, found = world(3)
    with pytest.raises(ValueError, match="6 images"):
        fit_head(given, found[:4])
    found[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"2\.png"):
        fit_head(given, found)
    with pytest.raises(ValueError, match="shape"):
        fit_head(*world(3))[0].scores(found[:, :2])

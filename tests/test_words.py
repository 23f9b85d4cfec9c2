"""The word anchor: what it measures, what it costs, and how its weight follows the budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from fakes import bare
from torch import Tensor, nn

from dspo_train.data.batch import Batch
from dspo_train.models.conditioning import Conditioning
from dspo_train.training.forward import predicted
from dspo_train.training.words import next_weight, word_errors


class Speaking:
    """predict(x, word) = base_word word + policy (shift + policy_word word); words are numbers."""

    def __init__(self, shift: float, word: float, *, refined: bool = False) -> None:
        self.process = bare()
        self.shift, self.word = nn.Parameter(torch.tensor(shift)), nn.Parameter(torch.tensor(word))
        self.state, self.asked = "policy", 0
        self.reference_is_base = not refined

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.asked += len(noisy)
        word = conditioning.tensors["word"].view(-1, 1, 1, 1).expand_as(noisy)
        told = 0.5 * word
        if self.state == "policy":
            told = told + self.shift + self.word * word
        return told + (0.25 * word if self.state == "initial" else 0)

    @contextmanager
    def _as(self, state: str) -> Iterator[None]:
        before, self.state = self.state, state
        try:
            yield
        finally:
            self.state = before

    def reference(self):
        return self._as("base" if self.reference_is_base else "initial")

    def base(self):
        return self._as("base")

    origin = reference


def batch() -> Batch:
    """Two pairs; their words are 1 and 2, and the other words 3 and 0."""
    words = Conditioning({"word": torch.tensor([1.0, 2.0, 1.0, 2.0])})
    made = Batch.of(bare(), torch.zeros(4, 1, 2, 2), torch.zeros(4, 1, 2, 2), torch.zeros(4), words)
    return replace(made, others=Conditioning({"word": torch.tensor([3.0, 0.0])}))


def test_a_shift_of_all_prompts_alike_is_free():
    denoiser, given = Speaking(shift=7.0, word=0.0), batch()
    found = word_errors(denoiser, given, predicted(denoiser, given))
    assert found.change.tolist() == [0, 0]
    assert found.effect.tolist() == [1, 1]  # (0.5 x 1 - 0.5 x 3)^2 and (0.5 x 2 - 0.5 x 0)^2


@pytest.mark.parametrize("refined", [False, True])
def test_what_words_do_is_held_at_the_base_even_where_a_lora_is_refined(refined):
    """With 0.1 more per word, differences of -2 and 2 words change by 0.2: 0.04 each, 4% of their effect."""
    denoiser, given = Speaking(shift=0.0, word=0.1, refined=refined), batch()
    found = word_errors(denoiser, given, predicted(denoiser, given))
    torch.testing.assert_close(found.change, torch.full((2,), 0.04))
    torch.testing.assert_close(found.effect, torch.ones(2))
    found.cost(weight=3.0, slope=2.0).sum().backward()
    # 6 (2 w)^2 of two rows is 48 w^2: a slope of 96 w
    torch.testing.assert_close(denoiser.word.grad, torch.tensor(9.6))
    assert not denoiser.shift.grad


@pytest.mark.parametrize(("refined", "rows"), [(False, 4 + 4 + 2 + 2), (True, 4 + 4 + 2 + 4)])
def test_nothing_is_predicted_twice(refined, rows):
    """Policy and reference of two pairs, the policy's other words, and the base's own if it is no reference."""
    denoiser, given = Speaking(0.0, 0.0, refined=refined), batch()
    word_errors(denoiser, given, predicted(denoiser, given))
    assert denoiser.asked == rows


def test_the_weight_rises_above_the_budget_and_falls_below_it():
    assert next_weight(2.0, share=0.1, budget=0.1) == 2.0
    assert next_weight(2.0, share=0.11, budget=0.1) > 2.0 > next_weight(2.0, share=0.09, budget=0.1)
    assert next_weight(2.0, share=50.0, budget=0.1) == next_weight(2.0, share=0.2, budget=0.1)  # bounded
    assert next_weight(2.0, share=float("nan"), budget=0.1) == 2.0
    low = high = 1.0
    for _ in range(200):
        low, high = next_weight(low, 0.0, 0.1), next_weight(high, 1.0, 0.1)
    assert (low, high) == (0.01, 1000.0)

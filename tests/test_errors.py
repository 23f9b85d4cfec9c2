"""The six errors of a pair, and what must not change them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import FakeDenoiser, random_batch, random_pairs

from dspo_train.objectives.errors import per_sample_mse
from dspo_train.training.forward import pair_errors


def test_per_sample_mse_worked_by_hand():
    """Image 0: differences 1 and 3, mean of squares 5. Image 1: all equal, 0."""
    a = torch.tensor([[[1.0, 3.0]], [[7.0, 7.0]]])
    b = torch.tensor([[[0.0, 0.0]], [[7.0, 7.0]]])
    torch.testing.assert_close(per_sample_mse(a, b), torch.tensor([5.0, 0.0]))


def test_errors_are_float32_even_for_half_precision_predictions():
    """In float16 the square of 300 overflows (65504 is its largest number); in float32 it is 90000."""
    a, b = torch.full((1, 4), 300.0, dtype=torch.float16), torch.zeros(1, 4, dtype=torch.float16)
    assert per_sample_mse(a, b).item() == 90000.0


def test_at_the_start_the_policy_is_the_reference():
    e = pair_errors(FakeDenoiser(), random_batch())
    assert torch.equal(e.policy_w, e.reference_w)
    assert torch.equal(e.policy_l, e.reference_l)
    assert torch.equal(e.margin, torch.zeros(4))
    assert torch.equal(e.drift_w + e.drift_l, torch.zeros(4))


def test_winner_and_loser_share_noise_and_timestep():
    """With the same latents on both sides every error agrees: nothing else is drawn apart."""
    pairs = random_pairs()
    denoiser = FakeDenoiser()
    denoiser.delta.data.fill_(0.02)
    e = pair_errors(denoiser, replace(pairs, loser=pairs.winner).batch())
    assert torch.equal(e.policy_w, e.policy_l)
    assert torch.equal(e.reference_w, e.reference_l)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_errors_follow_the_definition(prediction):
    """Worked out for one pair from x_t = a x_0 + s n and the target (n, or a n - s x_0)."""
    denoiser, pair = FakeDenoiser(prediction), random_pairs(pairs=1)
    denoiser.delta.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    a2 = denoiser.process.alphas_cumprod[pair.t].item()
    a, s = a2**0.5, (1 - a2) ** 0.5
    noisy = a * pair.loser + s * pair.noise
    target = pair.noise if prediction == "epsilon" else a * pair.noise - s * pair.loser
    weight = denoiser.weight + denoiser.delta
    predicted = torch.einsum("oc,nchw->nohw", weight, noisy)
    e = pair_errors(denoiser, pair.batch(prediction))
    torch.testing.assert_close(e.policy_l, (predicted - target).square().mean().view(1), rtol=1e-5, atol=1e-6)


def test_only_the_policy_has_a_gradient():
    denoiser, batch = FakeDenoiser(), random_batch()
    e = pair_errors(denoiser, batch)
    assert e.policy_w.requires_grad
    assert e.policy_l.requires_grad
    assert not e.reference_w.requires_grad
    assert not e.reference_l.requires_grad


def test_the_loser_can_be_measured_without_its_gradient():
    denoiser, batch = FakeDenoiser(), random_batch()
    denoiser.delta.data.fill_(0.02)
    with_graph, without = pair_errors(denoiser, batch), pair_errors(denoiser, batch, loser_gradient=False)
    torch.testing.assert_close(without.policy_l, with_graph.policy_l)
    (grad,) = torch.autograd.grad(without.policy_l.sum() + 0 * denoiser.delta.sum(), denoiser.delta)
    assert grad.abs().max() == 0

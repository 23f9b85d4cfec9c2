"""Direct Score Preference Optimization (Zhu et al., ICLR 2025): our regression, the released losses, the variants."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import PairErrors

SWITCH = 0.1  # mean squared drift from which the released SDXL code multiplies by the drift


def dspo(e: PairErrors, *, strength: float, loser_drift: float, sharpness: float) -> Tensor:
    """Score matching to the preferred distribution by regression from both images. -> (B,)

    DSPO's target score (Zhu et al., ICLR 2025, eq. 8 and 10) adds grad log p(y | x_t, c), y = "preferred", to the
    data's score. By Bayes' rule that is grad log p(x_t | y, c) - grad log p(x_t | c); with the reference model as
    p(x_t | c), denoising score matching makes it a regression on the noised winner and the noised loser:

        (q_w + b q_l) / g + w ((E_w - q_w - R_w) - (E_l - q_l - R_l)),
        g = strength, b = loser_drift, w = 2 sigmoid(-sharpness margin), held constant.

    The bracket is linear in the policy: towards the winner's target, away from the loser's; what they share cancels.
    The drift terms bound it; divided by g, they keep the gradient's scale, which clipping depends on. With w = 1 the
    minimiser is

        reference + g (r_w (E[target | winner] - reference) - r_l (E[target | loser] - reference)) / (r_w + b r_l),

    with r_w and r_l the densities of noised winners and losers at x_t. For b = 0 and a reference that is their mixture,
    the shift from the reference is 2 g grad log p(y | x_t, c). At b = 1 (with pair labels, this loss divided by g is,
    up to a constant, that of DiffusionNFT, arXiv 2509.16117, at its beta = 1 / g) the shift fades where x_t looks like
    a loser, exactly where it is needed, and a strength that compensates spoils what looks like a winner; at b = 0
    nothing holds the model where there are only losers.

    w is eq. 13's weight: 1 if the policy ranks a pair as the reference does, towards 0 as the pair is learned.
    A run measures margins in what words do to the prediction (see `training.units`), so that `sharpness` means the same
    for every model. Not in units of the reference's own error: it is small at high noise, the noisiest pairs would
    count as learned first, and images kept their colours less well: see docs/taste.md.

    Args:
        sharpness: half of the default goes further and tolerates wrong labels better; nearly twice keeps more images
            intact: docs/taste.md, where margins are the model's own errors and 4 stands for the default.
    """
    towards = e.policy_w - e.drift_w - e.reference_w
    away = e.policy_l - e.drift_l - e.reference_l
    return (e.drift_w + loser_drift * e.drift_l) / strength + e.unlearned(sharpness) * (towards - away)


def _pulled(e: PairErrors, pull: Tensor | float) -> Tensor:
    """mean((e_w - c d_w)^2): the data's score plus c times the policy's own lead over the reference. -> (B,)"""
    return e.policy_w - pull * (e.policy_w - e.reference_w + e.drift_w) + pull**2 * e.drift_w


def dspo_paper(e: PairErrors, *, beta: float) -> Tensor:
    """DSPO as released for SD1.5 (Zhu et al., ICLR 2025, eq. 13-14): mean((e_w - c d_w)^2). -> (B,)

    c = beta sigmoid(beta/2 regret), with the gradient through c as in the authors' code. At the published beta
    (0.001, 0.01, 0.05) c is nearly constant and tiny, so this trains like `sft`; kept to reproduce the paper.
    """
    return _pulled(e, beta * torch.sigmoid(0.5 * beta * e.regret))


def dspo_implicit(e: PairErrors, *, pull: float, sharpness: float) -> Tensor:
    """`dspo_paper` with eq. 13's two factors separated: c = pull min(1, 2 sigmoid(sharpness regret)), held constant.

    -> (B,). The paper's single beta has to be of order 1 as the weight of the reward and of order 1000 inside the
    sigmoid. The loser enters only through the weight and needs no gradient.

    Args:
        pull: in [0, 1); 0 is `sft`. A pair that the policy ranks no better than the reference gets the full pull.
    """
    return _pulled(e, pull * e.unlearned(sharpness).clamp(max=1))


def dspo_e(e: PairErrors, *, pull: float) -> Tensor:
    """DSPO-E, the energy-based variant (Zhu et al., eq. 45): `dspo_paper` with c = pull; no loser. -> (B,)"""
    return _pulled(e, pull)


def dspo_ref(e: PairErrors, *, bias: float, sharpness: float) -> Tensor:
    """DSPO-ref (Zhu et al., eq. 46): (1 - bias - sigmoid(sharpness margin))^2 q_w. -> (B,)

    The reference's score takes the place of the data's. Where the policy equals the reference, q_w and its gradient
    are zero, and so is the loss, which is its minimum: a run that begins at the reference stays there. Kept to
    reproduce the paper.
    """
    return (1 - bias - torch.sigmoid(sharpness * e.margin)).square() * e.drift_w


def dspo_sdxl(e: PairErrors, *, beta: float) -> Tensor:
    """DSPO as released for SDXL (Zhu et al., eq. 47): sigmoid(beta/2 regret)^2; times q_w where drift is large. -> (B,)

    The released code switches by the mean of q_w over a forward pass: from 0.1 on, the loss of each pair is
    multiplied by its q_w (eq. 46 without bias), so a pair's loss depends on the others in its pass. It is
    Diffusion-DPO with a squared link in place of the logarithm (gradient cosine 0.99 and more); sharpness = beta / 2.
    """
    link = torch.sigmoid(0.5 * beta * e.regret).square()
    return torch.where(e.drift_w.mean() >= SWITCH, link * e.drift_w, link)

"""One network read as noise or as v: told as v, its errors are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import SD15_SCHEDULE
from tiny_runs import write_base, write_pairs

from dspo_train.config import from_names
from dspo_train.models.process import Ddpm, Flow, from_scheduler_config
from dspo_train.models.reading import in_v, v_of
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session


def test_v_of_a_noise_worked_by_hand():
    """signal^2 = 0.36 at x_t = 0.6 x_0 + 0.8 noise = 2.2: (noise - 0.8 x_t) / 0.6 = (2 - 1.76) / 0.6 = 0.4, which is
    0.6 noise - 0.8 x_0."""
    process = Ddpm(torch.tensor([0.36], dtype=torch.float64), "epsilon")
    found = v_of(process, torch.full((1, 1), 2.0), torch.full((1, 1), 2.2), torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([[0.4]]))
    _, target = in_v(process).sample(torch.ones(1, 1), torch.full((1, 1), 2.0), torch.tensor([0]))
    torch.testing.assert_close(found, target)


def test_what_is_v_or_a_velocity_stays_as_it_is():
    v = replace(ddpm(), prediction="v_prediction")
    assert in_v(v) is v and in_v(Flow()) == Flow()
    answer = torch.randn(2, 4, 2, 2)
    assert v_of(v, answer, torch.zeros(2, 4, 2, 2), torch.tensor([1, 2])) is answer


def ddpm() -> Ddpm:
    process = from_scheduler_config(SD15_SCHEDULE)
    assert isinstance(process, Ddpm)
    return process


class AsNoise(DiffusersModel):
    """A network of v, rewritten to predict the noise: spread x_t + signal v."""

    @property
    def process(self) -> Ddpm:
        assert isinstance(self.base.process, Ddpm)
        return replace(self.base.process, prediction="epsilon")

    def predict(self, noisy, t, conditioning):
        signal, spread = self.process.levels(t, noisy)
        return spread * noisy + signal * super().predict(noisy, t, conditioning)


class NoiseSource(DiffusersSource):
    def load(self, config, precision, device):
        found = super().load(config, precision, device)
        return AsNoise(found.base, device, self.path)


@pytest.mark.parametrize("options", [{}, {"loss.word_budget": 0.1}, {"held_out.share": 0.5}])
def test_a_network_read_as_noise_trains_as_it_does_read_as_v(tmp_path, options):
    write_base(tmp_path / "base")
    write_pairs(tmp_path / "pairs")
    settings = {"steps": 3, "batch_size": 2, "precision": "fp32", "device": "cpu", "lora.rank": 2, "optim.lr": 1e-3}
    settings = {**settings, "data.resolution": 64, "data.bucket_step": 16, **options}

    def losses(kind: type[DiffusersSource], errors: str) -> list[float]:
        config = from_names({**settings, "loss.errors": errors})
        source = kind(tmp_path / "base", prediction="v_prediction")
        with open_session(Job(source, tmp_path / "pairs", tmp_path / kind.__name__ / errors, config)) as session:
            return [report.loss for report in session.reports()]

    as_v = losses(DiffusersSource, "model")
    assert losses(NoiseSource, "v") == pytest.approx(as_v, rel=1e-2)
    assert losses(NoiseSource, "model") != pytest.approx(as_v, rel=5e-2)

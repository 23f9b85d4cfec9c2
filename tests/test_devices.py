"""Which precision `auto` is."""

from __future__ import annotations

import pytest
import torch

from dspo_train.training.devices import resolve_precision

CUDA, CPU, MPS = torch.device("cuda"), torch.device("cpu"), torch.device("mps")


@pytest.mark.parametrize(("in_hardware", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_card_that_only_emulates_bf16_trains_in_fp16(monkeypatch, in_hardware, precision):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    assert resolve_precision("auto", CUDA) == precision
    assert resolve_precision("fp32", CUDA) == "fp32"


@pytest.mark.parametrize(("capability", "precision"), [((8, 6), "bf16"), ((7, 5), "fp16")])
def test_an_older_torch_is_asked_for_the_card_s_generation(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert resolve_precision("auto", CUDA) == precision


def test_other_devices_work_in_fp32():
    assert resolve_precision("auto", CPU) == resolve_precision("auto", MPS) == "fp32"

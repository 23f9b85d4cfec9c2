"""The weights of a MODEL wire, read by the APIs of older and newer ComfyUIs: both stood in for, no ComfyUI needed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

PACK = "the_pack_with_wires"  # as ComfyUI loads it: one package around both halves, under a name of its own
KEY = "model.diffusion_model.out.weight"


class Discrete: ...


class Eps: ...


class Sampling(Discrete, Eps):
    sigma_max = 14.6


class Lazy(torch.nn.Parameter):
    """As newer cores have it: the weight, patched only when it is moved."""

    def to(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.data + 1


class Inner:
    """What a MODEL wraps, in older cores."""

    def state_dict_for_saving(self, *parts: Any) -> dict[str, torch.Tensor]:
        assert not parts, "newer cores take the UNet's own weights first"
        return {KEY: torch.full((2,), 2.0), "v_pred": torch.tensor([])}


class Older:
    model = Inner()

    def get_model_object(self, name: str) -> Any:
        return {"model_sampling": Sampling()}[name]


class Newer(Older):
    def state_dict_for_saving(self) -> dict[str, torch.Tensor]:
        return {KEY: Lazy(torch.full((2,), 1.0), requires_grad=False), "v_pred": torch.tensor([])}


@pytest.fixture
def loads() -> list[dict[str, Any]]:
    """The options with which models were put onto the device, and how they left it: in inference mode?"""
    return []


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch, loads: list[dict[str, Any]]) -> Any:
    def unload() -> None:
        loads.append({"unloaded": torch.is_inference_mode_enabled()})

    management = ModuleType("comfy.model_management")
    management.load_models_gpu = lambda models, **options: loads.append(options)  # type: ignore[attr-defined]
    management.unload_all_models = unload  # type: ignore[attr-defined]
    management.soft_empty_cache = lambda: None  # type: ignore[attr-defined]
    sampling = SimpleNamespace(EPS=Eps, V_PREDICTION=type("V", (), {}), ModelSamplingDiscrete=Discrete)
    comfy, package = ModuleType("comfy"), ModuleType(PACK)
    comfy.model_management, comfy.model_sampling = management, sampling  # type: ignore[attr-defined]
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    modules = {"comfy": comfy, "comfy.model_management": management, "comfy.model_sampling": sampling, PACK: package}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module(f"{PACK}.nodes.wired")
    for name in [name for name in sys.modules if name.startswith(f"{PACK}.")]:
        del sys.modules[name]


@pytest.mark.parametrize("model", [Older(), Newer()])
def test_the_weights_are_the_patched_ones_and_ordinary_tensors(wired: Any, model: Older) -> None:
    weights = wired.copy(model)
    assert (list(weights.tensors), weights.prediction, weights.zero_snr) == ([KEY], "epsilon", False)
    assert weights.tensors[KEY].tolist() == [2.0, 2.0]
    assert type(weights.tensors[KEY]) is torch.Tensor and not weights.tensors[KEY].is_inference()


def test_the_same_weights_have_the_same_fingerprint_in_both(wired: Any) -> None:
    assert wired.fingerprint(Older()) == wired.fingerprint(Newer())


@pytest.mark.parametrize(("model", "forced"), [(Older(), True), (Newer(), None)])
def test_newer_loaders_are_not_asked_to_patch_ahead(
    wired: Any, loads: list[dict[str, Any]], model: Older, forced: bool | None
) -> None:
    """The one for models larger than the device asserts that it is not."""
    wired.copy(model)
    assert loads[0].get("force_patch_weights") is forced


def test_models_leave_the_device_in_inference_mode(wired: Any, loads: list[dict[str, Any]]) -> None:
    """As they came; otherwise ordinary tensors take the place of a model's own where a patch is taken off."""
    wired.copy(Older())
    assert loads[1:] == [{"unloaded": True}]

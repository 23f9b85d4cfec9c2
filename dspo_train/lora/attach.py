"""A LoRA on a UNet during training or sampling: attached, switched, and removed without a trace.

peft wraps the layers, with the arithmetic of `lean`. The base is only borrowed: on leaving, its modules, keys, weights,
`requires_grad` flags and train/eval modes are as they were on entering.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer as PeftLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ..config import LoraSpec
from ..exceptions import LoraFileError, ModelError
from .layers import TARGETS, LoraLayer, LoraWeights, adaptable_layers, fitted, fresh_weights
from .lean import lean_config
from .switched import Switched, set_modes

__all__ = ["TARGETS", "Adapter", "LoraLayer", "LoraWeights", "applied", "attached"]

_POLICY, _INITIAL = "policy", "initial"
_State = Literal["policy", "initial", "off"]
_PeftLayers = dict[str, PeftLayer]


@contextmanager
def attached(
    unet: nn.Module, spec: LoraSpec, *, seed: int, initial: LoraWeights | None = None, moving: bool = False
) -> Iterator[Adapter]:
    """Attach a trainable LoRA to a UNet; the reference is the base, with `initial` if that LoRA is refined.

    Args:
        spec: with `initial`, only its dropout applies: the trained layers, their ranks and alphas are `initial`'s; a
            layer that `initial` lacks gets no adapter.
        seed: of the fresh down matrices (Kaiming uniform; up is zero). The global random state is left alone.
        moving: give the reference (an EMA) LoRA weights of its own, initially equal to the policy's; see
            `Adapter.reference_tensors`.

    Raises:
        ModelError: the UNet has none of the targeted layers, or already carries an adapter.
        LoraFileError: `initial` does not fit this UNet.
    """
    weights = fresh_weights(unet, spec, seed=seed) if initial is None else dict(initial)
    fixed = initial is None and not moving
    adapters = {_POLICY: weights} if fixed else {_INITIAL: weights, _POLICY: weights}
    with _injected(unet, adapters, torch.float32) as layers:
        set_modes(unet)
        if spec.dropout > 0:
            for layer in layers.values():
                layer.lora_dropout[_POLICY] = _TrainingDropout(spec.dropout)
        adapter = Adapter(layers, "off" if fixed else "initial", "off" if initial is None else "initial")
        try:
            yield adapter
        finally:
            adapter._layers = {}


@contextmanager
def applied(unet: nn.Module, weights: LoraWeights, strength: float = 1.0) -> Iterator[None]:
    """Attach a finished LoRA for sampling, in the UNet's own precision as the usual loaders do.

    Raises:
        ModelError: the UNet already carries an adapter.
        LoraFileError: the LoRA does not fit this UNet.
    """
    scaled = {path: replace(layer, alpha=layer.alpha * strength) for path, layer in weights.items()}
    with _injected(unet, {_POLICY: scaled}, None):
        yield


class Adapter(Switched[_State]):
    """The LoRA under training. Made by `attached`.

    Attributes:
        parameters: every trained tensor, float32, by a name that is the same in every run (`<layer>.down`,
            `<layer>.up`). They are the only tensors of the UNet that require a gradient.
    """

    def __init__(self, layers: _PeftLayers, reference: _State, origin: _State) -> None:
        self._layers = layers
        self._reference: _State = reference
        self._origin: _State = origin
        self._state: _State = "policy"
        # Outlives the borrowed base, and must not keep its layers in memory.
        self._alphas = {path: float(layer.lora_alpha[_POLICY]) for path, layer in layers.items()}
        self.parameters: dict[str, nn.Parameter] = {}
        for path, layer in layers.items():
            self.parameters[f"{path}.down"], self.parameters[f"{path}.up"] = _factors(layer, _POLICY)
        self._moving: dict[str, Tensor] = {}
        for path, layer in layers.items() if reference != origin else ():
            self._moving[f"{path}.down"], self._moving[f"{path}.up"] = _factors(layer, _INITIAL)
        self._switch("policy")

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the UNet is the reference: the bare base, or the base with the frozen initial LoRA."""
        with self._as(self._reference):
            yield

    @contextmanager
    def origin(self) -> Iterator[None]:
        """Inside, the UNet is as before any training, which is the reference unless that is an EMA."""
        with self._as(self._origin):
            yield

    def reference_tensors(self) -> dict[str, Tensor]:
        """A reference EMA's own tensors, to be updated, by the parameters' names; empty if the reference is fixed."""
        return self._moving

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the UNet is the bare base, bit for bit."""
        with self._as("off"):
            yield

    @contextmanager
    def strength(self, scale: float) -> Iterator[None]:
        """Inside, the trained LoRA's effect is multiplied by `scale`; the reference is unchanged."""
        self._refuse_if_taken_off()
        before = {path: layer.scaling[_POLICY] for path, layer in self._layers.items()}
        try:
            for path, layer in self._layers.items():
                layer.scaling[_POLICY] = before[path] * scale
            yield
        finally:
            for path, layer in self._layers.items():
                layer.scaling[_POLICY] = before[path]

    def weights(self) -> dict[str, LoraLayer]:
        """A copy of the trained LoRA, float32 on the CPU; available even after the LoRA was removed."""
        return {
            path: LoraLayer(_copy(self.parameters[f"{path}.down"]), _copy(self.parameters[f"{path}.up"]), alpha)
            for path, alpha in self._alphas.items()
        }

    def load(self, weights: LoraWeights) -> None:
        """Overwrite the trained LoRA in place, as when a run is resumed; the reference does not change.

        Raises:
            LoraFileError: layers, shapes or alphas differ from the attached ones.
        """
        missing, extra = self._alphas.keys() - weights.keys(), weights.keys() - self._alphas.keys()
        if missing or extra:
            name = min(missing or extra)
            raise LoraFileError(
                f"the saved LoRA {'lacks' if missing else 'has'} layer {name!r}, which this run's adapter "
                f"{'has' if missing else 'lacks'}; resume with the LoRA settings that the run was started with"
            )
        for path, layer in weights.items():
            self._check_same(path, layer)
        with torch.no_grad():
            for path, layer in weights.items():
                self.parameters[f"{path}.down"].copy_(layer.down)
                self.parameters[f"{path}.up"].copy_(layer.up)

    def _check_same(self, path: str, layer: LoraLayer) -> None:
        down, up, alpha = self.parameters[f"{path}.down"], self.parameters[f"{path}.up"], self._alphas[path]
        same = (layer.down.shape, layer.up.shape) == (down.shape, up.shape)
        if not same or not math.isclose(layer.alpha, alpha, rel_tol=1e-6):
            raise LoraFileError(
                f"{path}: the saved LoRA has rank {layer.rank} and alpha {layer.alpha:g}, but this run's adapter has "
                f"rank {down.shape[0]} and alpha {alpha:g}; resume with the LoRA settings that the run was started "
                "with"
            )

    def _refuse_if_taken_off(self) -> None:
        if not self._layers:
            raise RuntimeError("this LoRA has been removed from its UNet; use it inside `attached`")

    def _switch(self, state: _State) -> None:
        for layer in self._layers.values():
            if state == "off":
                layer.enable_adapters(False)
            else:
                if layer.disable_adapters:
                    layer.enable_adapters(True)
                if layer.active_adapters != [state]:
                    layer.set_adapter(state)
            # peft makes the active adapters trainable and freezes the rest; here only the policy is ever trainable.
            for name in layer.lora_A:
                layer.lora_A[name].requires_grad_(name == _POLICY)
                layer.lora_B[name].requires_grad_(name == _POLICY)
        self._state = state


@contextmanager
def _injected(unet: nn.Module, adapters: Mapping[str, LoraWeights], dtype: torch.dtype | None) -> Iterator[_PeftLayers]:
    """Wrap the layers in peft's, frozen, with one or more adapters each; `dtype` None uses each layer's own."""
    if any(isinstance(module, BaseTunerLayer) for module in unet.modules()):
        raise ModelError("this UNet already carries an adapter; remove it before attaching another")
    bases = adaptable_layers(unet)
    weights = {name: _all_fitted(adapter, bases) for name, adapter in adapters.items()}
    used = {path for adapter in weights.values() for path in adapter}
    flags = [(parameter, parameter.requires_grad) for parameter in unet.parameters()]
    modes = [(module, module.training) for module in unet.modules()]
    note = unet.__dict__.get("peft_config")
    try:
        for name, adapter in weights.items():
            _inject(unet, name, adapter, dtype)
        yield {path: unet.get_submodule(path) for path in bases if path in used}  # type: ignore[misc]
    finally:
        for path in used:
            parent, _, child = path.rpartition(".")
            setattr(unet.get_submodule(parent), child, bases[path])
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
        unet.__dict__.pop("peft_config", None)
        if note is not None:
            unet.__dict__["peft_config"] = note


def _all_fitted(weights: LoraWeights, bases: Mapping[str, nn.Module]) -> dict[str, LoraLayer]:
    if not weights:
        raise LoraFileError("the LoRA holds no layers; give another file")
    for path in weights:
        if path not in bases:
            raise LoraFileError(f"this base has no layer {path!r}; the LoRA was made for another kind of model")
    return {path: fitted(path, layer, bases[path]) for path, layer in weights.items()}


def _inject(unet: nn.Module, name: str, weights: LoraWeights, dtype: torch.dtype | None) -> None:
    # Ranks and alphas are set below, because peft compares every layer with every pattern that is given for them.
    config = lean_config(list(weights))
    unet.__dict__.pop("peft_config", None)  # of an earlier injection, about which peft would warn
    with torch.random.fork_rng(devices=[]):  # peft draws, on the CPU, values that are replaced below
        inject_adapter_in_model(config, unet, name)
    for path, layer in weights.items():
        wrapper = unet.get_submodule(path)
        assert isinstance(wrapper, PeftLayer)
        wrapper.r[name], wrapper.lora_alpha[name] = layer.rank, layer.alpha
        wrapper.scaling[name] = layer.alpha / layer.rank
        base = wrapper.get_base_layer().weight
        assert isinstance(base, Tensor)
        for module, value in ((wrapper.lora_A[name], layer.down), (wrapper.lora_B[name], layer.up)):
            value = value.detach().clone().to(base.device, dtype or base.dtype)
            module.weight = nn.Parameter(value, requires_grad=False)


class _TrainingDropout(nn.Module):
    """Dropout only where gradients are recorded: not in previews, held-out errors or the reference."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.share, training=torch.is_grad_enabled())


def _factors(layer: PeftLayer, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
    """Down and up, which peft calls A and B."""
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    assert isinstance(down, nn.Parameter) and isinstance(up, nn.Parameter)
    return down, up


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu", torch.float32, copy=True)

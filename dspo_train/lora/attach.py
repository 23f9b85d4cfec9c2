"""A LoRA on a network during training or sampling: attached, switched, and removed without a trace.

The base is only borrowed: on leaving, its hooks and `requires_grad` flags are as they were on entering, and its
modules, keys and weights were never touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..config import LoraSpec
from ..exceptions import LoraFileError, ModelError
from .hooked import AdapterLayer, Factors, Switch, adapted
from .layers import TARGETS, LoraLayer, LoraWeights, TargetTable, adaptable_layers, fitted, fresh_weights
from .switched import Switched

__all__ = ["TARGETS", "Adapter", "LoraLayer", "LoraWeights", "applied", "attached"]

_State = Literal["policy", "initial", "off"]


@contextmanager
def attached(
    network: nn.Module,
    spec: LoraSpec,
    *,
    seed: int,
    initial: LoraWeights | None = None,
    moving: bool = False,
    targets: TargetTable = TARGETS,
    device: torch.device | str | None = None,
) -> Iterator[Adapter]:
    """Attach a trainable LoRA to a network; the reference is the base, with `initial` if that LoRA is refined.

    Args:
        spec: with `initial`, only its dropout applies: the trained layers, their ranks and alphas are `initial`'s; a
            layer that `initial` lacks gets no adapter.
        seed: of the fresh down matrices (Kaiming uniform; up is zero). The global random state is left alone.
        moving: give the reference (an EMA) LoRA weights of its own, initially equal to the policy's; see
            `Adapter.reference_tensors`.
        targets: the layers that each value of `spec.targets` names.
        device: of the LoRA; by default that of the network's weights.

    Raises:
        ModelError: the network has none of the targeted layers, or already carries an adapter.
        LoraFileError: `initial` does not fit this network.
    """
    weights = fresh_weights(network, spec, seed=seed, targets=targets) if initial is None else dict(initial)
    fixed = initial is None and not moving
    given = {"policy": weights} if fixed else {"initial": weights, "policy": weights}
    switch: Switch[_State] = Switch("policy")
    with _frozen(network), _hooked(network, given, torch.float32, device, switch) as layers:
        for layer in layers.values():
            layer.adapters["policy"].dropout = spec.dropout
        adapter = Adapter(layers, switch, "off" if fixed else "initial", "off" if initial is None else "initial")
        try:
            yield adapter
        finally:
            adapter._layers = {}


@contextmanager
def applied(network: nn.Module, weights: LoraWeights, strength: float = 1.0) -> Iterator[None]:
    """Attach a finished LoRA for sampling, in the network's own precision as the usual loaders do.

    Raises:
        ModelError: the network already carries an adapter.
        LoraFileError: the LoRA does not fit this network.
    """
    scaled = {path: replace(layer, alpha=layer.alpha * strength) for path, layer in weights.items()}
    with _hooked(network, {"policy": scaled}, None, None, Switch("policy")):
        yield


class Adapter(Switched[_State]):
    """The LoRA under training. Made by `attached`.

    Attributes:
        parameters: every trained tensor, float32, by a name that is the same in every run (`<layer>.down`,
            `<layer>.up`). They are the only tensors that require a gradient.
    """

    def __init__(
        self, layers: dict[str, AdapterLayer], switch: Switch[_State], reference: _State, origin: _State
    ) -> None:
        self._layers, self._active = layers, switch
        self._reference: _State = reference
        self._origin: _State = origin
        self._state: _State = "policy"
        self._policy = {path: layer.adapters["policy"] for path, layer in layers.items()}
        self.parameters = _named(self._policy)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        moving = {path: layer.adapters["initial"] for path, layer in layers.items()} if reference != origin else {}
        self._moving = _named(moving)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the network is the reference: the bare base, or the base with the frozen initial LoRA."""
        with self._as(self._reference):
            yield

    @property
    def reference_is_base(self) -> bool:
        return self._reference == "off"

    @contextmanager
    def origin(self) -> Iterator[None]:
        """Inside, the network is as before any training, which is the reference unless that is an EMA."""
        with self._as(self._origin):
            yield

    def reference_tensors(self) -> Mapping[str, Tensor]:
        """A reference EMA's own tensors, to be updated, by the parameters' names; empty if the reference is fixed."""
        return self._moving

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the network is the bare base, bit for bit."""
        with self._as("off"):
            yield

    @contextmanager
    def strength(self, scale: float) -> Iterator[None]:
        """Inside, the trained LoRA's effect is multiplied by `scale`; the reference is unchanged."""
        self._refuse_if_taken_off()
        before = {path: factors.scaling for path, factors in self._policy.items()}
        try:
            for path, factors in self._policy.items():
                factors.scaling = before[path] * scale
            yield
        finally:
            for path, factors in self._policy.items():
                factors.scaling = before[path]

    def weights(self) -> dict[str, LoraLayer]:
        """A copy of the trained LoRA, float32 on the CPU; available even after the LoRA was removed."""
        return {
            path: LoraLayer(_copy(factors.down), _copy(factors.up), factors.alpha)
            for path, factors in self._policy.items()
        }

    def load(self, weights: LoraWeights) -> None:
        """Overwrite the trained LoRA in place, as when a run is resumed; the reference does not change.

        Raises:
            LoraFileError: layers, shapes or alphas differ from the attached ones.
        """
        missing, extra = self._policy.keys() - weights.keys(), weights.keys() - self._policy.keys()
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
                self._policy[path].down.copy_(layer.down)
                self._policy[path].up.copy_(layer.up)

    def _check_same(self, path: str, layer: LoraLayer) -> None:
        factors = self._policy[path]
        rank, alpha = factors.down.shape[0], factors.alpha
        same = (layer.down.shape, layer.up.shape) == (factors.down.shape, factors.up.shape)
        if not same or not math.isclose(layer.alpha, alpha, rel_tol=1e-6):
            raise LoraFileError(
                f"{path}: the saved LoRA has rank {layer.rank} and alpha {layer.alpha:g}, but this run's adapter has "
                f"rank {rank} and alpha {alpha:g}; resume with the LoRA settings that the run was "
                "started with"
            )

    def _refuse_if_taken_off(self) -> None:
        if not self._layers:
            raise RuntimeError("this LoRA has been removed from its model; use it inside `attached`")

    def _switch(self, state: _State) -> None:
        self._active.state = self._state = state


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Inside, none of the network's own weights requires a gradient."""
    flagged = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in flagged:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in flagged:
            with torch.inference_mode(parameter.is_inference()):
                parameter.requires_grad_(True)


@contextmanager
def _hooked(
    network: nn.Module,
    given: Mapping[str, LoraWeights],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    switch: Switch[_State],
) -> Iterator[dict[str, AdapterLayer]]:
    """Hook layers with one or more adapters each, by state; `dtype` and `device` None use each layer's own."""
    if adapted(network):
        raise ModelError("this model already carries an adapter; remove it before attaching another")
    bases = adaptable_layers(network)
    fitting = {state: _all_fitted(weights, bases) for state, weights in given.items()}
    layers = {path: AdapterLayer(switch) for path in bases if any(path in weights for weights in fitting.values())}
    for state, weights in fitting.items():
        for path, layer in weights.items():
            layers[path].adapters[state] = _factors(layer, bases[path], dtype, device)
    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.callback(bases[path].register_forward_hook(layer).remove)
        yield layers


def _factors(
    layer: LoraLayer, base: nn.Module, dtype: torch.dtype | None, device: torch.device | str | None
) -> Factors:
    weight = base.weight
    assert isinstance(weight, Tensor)
    stored = weight.dtype if weight.dtype in (torch.float16, torch.bfloat16) else torch.float32  # not in 8 bits
    down, up = (
        nn.Parameter(value.detach().clone().to(device or weight.device, dtype or stored), requires_grad=False)
        for value in (layer.down, layer.up)
    )
    return Factors(down, up, layer.alpha / layer.rank, layer.alpha)


def _all_fitted(weights: LoraWeights, bases: Mapping[str, nn.Module]) -> dict[str, LoraLayer]:
    if not weights:
        raise LoraFileError("the LoRA holds no layers; give another file")
    for path in weights:
        if path not in bases:
            raise LoraFileError(f"this base has no layer {path!r}; the LoRA was made for another kind of model")
    return {path: fitted(path, layer, bases[path]) for path, layer in weights.items()}


def _named(adapters: Mapping[str, Factors]) -> dict[str, nn.Parameter]:
    """Both factors of every layer, by the names under which a run saves them."""
    named: dict[str, nn.Parameter] = {}
    for path, factors in adapters.items():
        named[f"{path}.down"], named[f"{path}.up"] = factors.down, factors.up
    return named


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu", torch.float32, copy=True)

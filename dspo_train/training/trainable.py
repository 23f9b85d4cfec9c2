"""What a run trains, a LoRA or the whole network, and how it becomes files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import Parameter

from ..config import TrainConfig
from ..exceptions import ConfigError
from ..lora.attach import Adapter, LoraWeights, attached
from ..lora.extract import Extracted, extract
from ..lora.metadata import LoraFacts, lora_metadata
from ..lora.writing import save_lora, storage_dtype
from .full import WholeModel, whole
from .model import Model


class Trainable(Protocol):
    """The trained weights on a network, and the states that it can be switched to."""

    @property
    def parameters(self) -> Mapping[str, Parameter]: ...

    def reference(self) -> AbstractContextManager[None]: ...

    @property
    def reference_is_base(self) -> bool:
        """Whether `reference` is the base model itself, without any LoRA."""
        ...

    def origin(self) -> AbstractContextManager[None]: ...

    def off(self) -> AbstractContextManager[None]: ...

    def reference_tensors(self) -> Mapping[str, Tensor]:
        """A reference EMA's own tensors, by the parameters' names; empty if the reference is fixed."""
        ...


def check_start(config: TrainConfig, *, refine: bool) -> None:
    """Check that these settings can start from what they are given.

    Raises:
        ConfigError: a LoRA to refine is combined with full training or with a reference EMA.
    """
    if refine and (config.method == "full" or config.moving_reference > 0):
        given = "`method` full" if config.method == "full" else "`moving_reference`"
        raise ConfigError(f"{given} starts from the base model and cannot refine a LoRA; leave one of them out")


@contextmanager
def trainable(model: Model, config: TrainConfig, initial: LoraWeights | None) -> Iterator[Trainable]:
    """Attach what is trained to the model's network, and remove it on leaving.

    Raises:
        ConfigError: see `check_start`.
    """
    check_start(config, refine=initial is not None)
    moving = config.moving_reference > 0
    if config.method == "full":
        with whole(model.network, moving=moving) as every_weight:
            yield every_weight
        return
    options: dict[str, Any] = {"targets": model.targets, "device": model.device}
    with attached(model.network, config.lora, seed=config.seed, initial=initial, moving=moving, **options) as adapter:
        yield adapter


def write_lora(path: Path, trained: Trainable, model: Model, config: TrainConfig, facts: LoraFacts) -> Extracted | None:
    """Write the current LoRA, or the nearest LoRA to a whole network, in the model's own format.

    Returns:
        What was extracted; None if a LoRA was trained.
    """
    if isinstance(trained, Adapter):
        extracted, weights = None, trained.weights()
    else:
        extracted = extract(*_before_and_after(trained, model.network), config.lora.targets, config.lora.rank)
        weights = extracted.weights
    metadata, dtype = lora_metadata(facts, weights), storage_dtype(weights)
    save_lora(path, weights, format=model.lora, metadata=metadata, dtype=dtype)
    return extracted


def _before_and_after(trained: Trainable, network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The whole network's tensors before training and now, by the names of its `state_dict`."""
    with trained.origin():
        before = network.state_dict()
    return before, {**before, **{name: parameter.detach() for name, parameter in trained.parameters.items()}}


def whole_state(trained: WholeModel, network: nn.Module) -> dict[str, Tensor]:
    """The whole network's tensors in their current state, by the names of its `state_dict`."""
    return _before_and_after(trained, network)[1]

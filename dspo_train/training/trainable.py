"""What a run trains, a LoRA or the whole UNet, and how it becomes files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter

from ..config import TrainConfig
from ..exceptions import ConfigError
from ..lora.attach import Adapter, LoraWeights, attached
from ..lora.extract import Extracted, extract
from ..lora.metadata import LoraFacts, lora_metadata
from ..lora.writing import save_lora, storage_dtype
from ..models.base import Base
from ..models.checkpoint_file import save_checkpoint
from .full import WholeModel, whole


class Trainable(Protocol):
    """The trained weights on a UNet, and the states that the UNet can be switched to."""

    @property
    def parameters(self) -> Mapping[str, Parameter]: ...

    def reference(self) -> AbstractContextManager[None]: ...

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
def trainable(base: Base, config: TrainConfig, initial: LoraWeights | None) -> Iterator[Trainable]:
    """Attach what is trained to the base's UNet, and remove it on leaving.

    Raises:
        ConfigError: see `check_start`.
    """
    check_start(config, refine=initial is not None)
    moving = config.moving_reference > 0
    if config.method == "full":
        with whole(base.unet, moving=moving) as model:
            yield model
        return
    with attached(base.unet, config.lora, seed=config.seed, initial=initial, moving=moving) as adapter:
        yield adapter


def write_lora(path: Path, trained: Trainable, base: Base, config: TrainConfig, facts: LoraFacts) -> Extracted | None:
    """Write the current LoRA, or the nearest LoRA to a whole UNet, in the format that every interface loads.

    Returns:
        What was extracted; None if a LoRA was trained.
    """
    if isinstance(trained, Adapter):
        extracted, weights = None, trained.weights()
    else:
        extracted = extract(*_before_and_after(trained, base), config.lora.targets, config.lora.rank)
        weights = extracted.weights
    save_lora(
        path,
        weights,
        family=base.family.name,
        unet_config=base.unet.config,
        metadata=lora_metadata(facts, weights),
        dtype=storage_dtype(weights),
    )
    return extracted


def _before_and_after(trained: Trainable, base: Base) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The whole UNet's tensors before training and now, by the names of its `state_dict`."""
    with trained.origin():
        before = base.unet.state_dict()
    return before, {**before, **{name: parameter.detach() for name, parameter in trained.parameters.items()}}


def write_checkpoint(path: Path, file: Path, trained: WholeModel, base: Base, facts: LoraFacts) -> None:
    """Write the whole UNet in its current state.

    Args:
        file: the one that the base was loaded from.
    """
    _, after = _before_and_after(trained, base)
    save_checkpoint(
        path,
        file,
        after,
        unet_config=base.unet.config,
        prediction=base.process.prediction,
        zero_snr=bool(base.scheduler_config.get("rescale_betas_zero_snr")),
        metadata={key: value for key, value in lora_metadata(facts, {}).items() if key.startswith("dspo.")},
    )

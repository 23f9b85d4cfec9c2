"""Write a whole trained UNet: as a copy of its checkpoint with the UNet replaced, or as a UNet file of its own.

The file is assembled part by part, so that memory holds one tensor at a time; everything but the UNet is copied byte by
byte.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import files
from ..exceptions import ModelError
from ..files.published import check_metadata
from ..files.tensor_file import StoredTensor, header_bytes, read_header
from .families import PREDICTION_NAMES, Prediction, family_of
from .ldm_layout import original_names
from .single_file import UNET_PREFIX, open_single_file

log = logging.getLogger("dspo")

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
STALE_TENSORS = "model_ema."  # an average of the replaced UNet; some tools prefer it to the UNet
STALE_METADATA = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")
MOST_LOST = 0.1  # if each weight moved by 1e-4, float16 loses 0.1% and bfloat16 7%; by 1e-5, 11% and 73%
_BLOCK = 1 << 24


@dataclass(frozen=True)
class SavedCheckpoint:
    """A written file.

    Attributes:
        lost: squared error of rounding to the file's types, as a share of the squared change from the base file to
            the trained weights; None if there is no base file to compare with.
    """

    path: Path
    lost: float | None


def save_checkpoint(
    path: Path,
    base: Path,
    unet_state: Mapping[str, Tensor],
    *,
    unet_config: Mapping[str, Any],
    prediction: Prediction,
    zero_snr: bool = False,
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> SavedCheckpoint:
    """Write a trained UNet in the original layout, whole or not at all; an earlier file stays until then.

    From a single-file base everything else is carried over, except an average of its UNet (`model_ema.`) and the hashes
    in its metadata; CheckpointLoaderSimple loads the result. For a diffusers folder only the UNet is written, under
    bare names, for ComfyUI's "Load Diffusion Model": with the usual prefix that loader would not see SDXL's `v_pred`.

    Args:
        path: ends in `.safetensors`; missing folders are made.
        base: the checkpoint or diffusers folder that was trained.
        unet_state: by the names of diffusers' `state_dict`, on any device, of any floating type.
        unet_config: the UNet's diffusers config.
        prediction: what the UNet predicts; SDXL files mark it by the tensors `v_pred` and `ztsnr`.
        metadata: added to the base file's, which it overrides.
        dtype: of the UNet in the file; by default each tensor's type in the base file, else float16.

    Raises:
        ModelError: the base file is gone, of another family, or would be overwritten; the weights are not finite or
            too large for the file's type; or the write was damaged.
        LoraFileError: the metadata holds a path.
        RunError: the disk is full, or the folder cannot be written.
    """
    _refuse_place(path, base)
    check_metadata(metadata)
    names = original_names(unet_state, unet_config)
    trained = {names[key]: value for key, value in unet_state.items()}
    wanted = _markers(prediction, zero_snr)
    family = family_of(unet_config)
    markers = wanted if family.prediction_markers else set()
    added = {"modelspec.prediction_type": PREDICTION_NAMES[prediction], **metadata}
    if base.is_dir():
        writer = _Writer(_parts(trained, {}, dtype, markers), {"format": "pt", **added}, None, trained)
    else:
        trained = {UNET_PREFIX + name: value for name, value in trained.items()}
        file = open_single_file(base)
        if file.family is not family:
            raise ModelError(
                f"the trained UNet is of the {family.name} family, but the checkpoint {base.name} is "
                f"{file.family.name}; put the checkpoint back that was trained"
            )
        kept = {
            k: part
            for k, part in read_header(base, ModelError).tensors.items()
            if (not k.startswith(UNET_PREFIX) or k in trained) and _stays(k, wanted)
        }
        carried = {key: value for key, value in file.metadata.items() if key not in STALE_METADATA}
        writer = _Writer(_parts(trained, kept, dtype, markers), {"format": "pt", **carried, **added}, base, trained)
    files.write_chunks(path, writer.chunks(), writer.check)
    if writer.lost is not None and writer.lost > MOST_LOST:
        lost = 100 * min(writer.lost, 1.0)
        log.warning(
            "%s: its precision rounds away %.0f%% of what was learned; save as float32 to keep it", path.name, lost
        )
    return SavedCheckpoint(path, writer.lost)


def _refuse_place(path: Path, base: Path) -> None:
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: a checkpoint's name must end in .safetensors, or no interface will list it")
    if not base.exists():
        raise ModelError(f"{base}, the base that was trained, no longer exists; put it back to write the checkpoint")
    if path.exists() and path.samefile(base):
        raise ModelError(f"{path} is the base itself, which is never overwritten; give another name")


def _parts(
    trained: Mapping[str, Tensor], kept: Mapping[str, StoredTensor], dtype: torch.dtype | None, markers: Iterable[str]
) -> dict[str, StoredTensor]:
    """The new file's tensors: widest elements first, as safetensors aligns them, otherwise in the base file's order."""
    parts = dict(kept)
    for name, value in trained.items():
        own = parts[name].dtype if name in parts else "F16"
        kind = own if own in FLOATS else "F16"
        if dtype is not None:
            kind = next(spelling for spelling, known in FLOATS.items() if known == dtype)
        parts[name] = StoredTensor(kind, tuple(value.shape), value.numel() * FLOATS[kind].itemsize)
    parts |= {name: StoredTensor("F32", (0,), 0) for name in sorted(markers) if name not in parts}
    return dict(sorted(parts.items(), key=lambda item: -item[1].width))


def _stays(name: str, wanted: set[str]) -> bool:
    """Is a tensor of the base file still valid beside the new UNet?"""
    return name in wanted if name in ("v_pred", "ztsnr") else not name.startswith(STALE_TENSORS)


def _markers(prediction: Prediction, zero_snr: bool) -> set[str]:
    """The tensors by which SDXL checkpoints mark their noise process; their values mean nothing."""
    if prediction != "v_prediction":
        return set()
    return {"v_pred", "ztsnr"} if zero_snr else {"v_pred"}


class _Writer:
    """Makes a file's bytes in order, and adds up the rounding error."""

    def __init__(
        self,
        parts: Mapping[str, StoredTensor],
        metadata: Mapping[str, str],
        source: Path | None,
        trained: Mapping[str, Tensor],
    ) -> None:
        self.parts, self.source, self.trained = parts, source, trained
        self.header = header_bytes(parts, metadata)
        self._error = self._change = 0.0

    @property
    def lost(self) -> float | None:
        if self.source is None:
            return None
        return self._error / self._change if self._change else 0.0

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield self.header
        if self.source is None:
            for name in self.parts:
                yield self._stored(name, None)
            return
        with self.source.open("rb") as file, safe_open(str(self.source), framework="pt") as old:
            held = set(old.keys())
            for name, part in self.parts.items():
                if name in self.trained:
                    yield self._stored(name, old.get_tensor(name) if name in held else None)
                    continue
                file.seek(part.start)
                for first in range(0, part.length, _BLOCK):
                    yield file.read(min(_BLOCK, part.length - first))

    def _stored(self, name: str, before: Tensor | None) -> memoryview | bytes:
        """A trained tensor's bytes; a marker has none."""
        if name not in self.trained:
            return b""
        part, value = self.parts[name], self.trained[name].detach().to("cpu", torch.float32)
        if not value.isfinite().all():
            raise ModelError(f"{name} holds values that are not finite: the training diverged; lower the learning rate")
        stored = value.to(FLOATS[part.dtype]).contiguous()
        back = stored.to(torch.float32)
        if not back.isfinite().all():
            raise ModelError(
                f"{name}: {value.abs().max():.3g} is more than the file's {part.dtype} can hold; save as float32"
            )
        if before is not None and before.shape == value.shape:
            self._error += float((back - value).square().sum(dtype=torch.float64))
            self._change += float((value - before.to(torch.float32)).square().sum(dtype=torch.float64))
        return stored.reshape(-1).view(torch.uint8).numpy().data

    def check(self, written: Path) -> None:
        """Raise a ModelError unless a reader finds what was to be written."""
        length = len(self.header) + sum(part.length for part in self.parts.values())
        try:
            with safe_open(str(written), framework="pt") as file:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError(f"the checkpoint was not written correctly: {error}; is the disk failing?") from error
        if shapes != {name: part.shape for name, part in self.parts.items()} or written.stat().st_size != length:
            raise ModelError("the checkpoint was not written correctly: its tensors differ; is the disk failing?")

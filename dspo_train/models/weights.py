"""Weights from disk into models: which files hold them, under which names, and whether they are complete and finite."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..exceptions import ModelError
from ..files.words import many

WEIGHT_FILES = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?"
    r"\.(?P<kind>safetensors|bin)"
)


def has_weights(folder: Path) -> bool:
    """Does the folder hold a weight file under a name that is read?"""
    return any(WEIGHT_FILES.fullmatch(path.name) for path in folder.iterdir())


def weight_files(folder: Path) -> tuple[str | None, str]:
    """Which of a folder's weight files to read: (variant, `safetensors` or `bin`), no variant if possible."""
    found = {
        (match["kind"] != "safetensors", match["variant"] or "")
        for match in map(WEIGHT_FILES.fullmatch, (p.name for p in folder.iterdir()))
        if match
    }
    if not found:
        raise ModelError(f"{folder} holds no weights (.safetensors or .bin); download it again")
    pickled, variant = min(found)
    return variant or None, "bin" if pickled else "safetensors"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of one component's folder, of one file or of several; safetensors stay mapped from disk.

    Raises:
        ModelError: there are none, or a file is damaged.
    """
    variant, kind = weight_files(folder)
    state: dict[str, Tensor] = {}
    for path in sorted(folder.iterdir()):
        match = WEIGHT_FILES.fullmatch(path.name)
        if not match or (match["variant"], match["kind"]) != (variant, kind):
            continue
        try:
            if kind == "bin":
                state |= torch.load(path, map_location="cpu", weights_only=True)
            else:
                with safe_open(str(path), framework="pt") as file:
                    state |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except MemoryError:
            raise
        except Exception as error:  # torch.load raises many types on damaged files
            raise ModelError(
                f"{path} cannot be loaded: it is damaged or not fully downloaded; download it again"
            ) from error
    return state


def fill(model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype, where: str) -> nn.Module:
    """Put weights into an empty model without a second copy; a tensor of the right type stays mapped from disk.

    Raises:
        ModelError: tensors are missing or unknown, have other shapes, or hold values that are not finite.
    """
    wanted = model.state_dict().keys()
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    missing, unexpected = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unexpected:
        kind, names = ("lacks", missing) if missing else ("has unknown", unexpected)
        raise ModelError(
            f"{where} {kind} {many(len(names), 'tensor')}, such as {names[0]!r}; it is not the expected kind of model"
        )
    for key in state:
        state[key] = state[key].to(dtype)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        found = re.search(r"for ([\w.]+): .*?\[([\d, ]*)\].*?\[([\d, ]*)\]", str(error))
        what = f"{found[1]} has the shape ({found[2]}), not ({found[3]})" if found else "its shapes do not fit"
        raise ModelError(f"{where}: {what}; it is not the expected kind of model") from error
    refuse_non_finite(model, where)
    return model.eval().requires_grad_(False)


def named_like(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give CLIP's keys the model's prefix: `text_model.` depends on the version of transformers, and on old merges."""
    wanted = model.state_dict().keys()
    bare = {key.removeprefix("text_model."): value for key, value in state.items()}
    return {f"text_model.{key}" if f"text_model.{key}" in wanted else key: v for key, v in bare.items()}


def refuse_non_finite(model: nn.Module, where: str) -> None:
    """Refuse weights with infinities or NaNs, which every later figure would inherit.

    Raises:
        ModelError: there are some; it names the part and the tensor.
    """
    for name, tensor in model.state_dict().items():
        # A sum in float32 is one pass without a copy. Huge values could overflow it, so then each is looked at.
        if (
            tensor.is_floating_point()
            and not tensor.sum(dtype=torch.float32).isfinite()
            and not tensor.isfinite().all()
        ):
            raise ModelError(
                f"{where}: the weights of {name!r} are not all finite, so that nothing can be drawn or trained with "
                f"it{precision_hint(tensor.dtype)}; download it again, or use another model"
            )


def precision_hint(dtype: torch.dtype) -> str:
    """What to try where fp16 may have overflowed; empty for other types."""
    return "; large values overflow in fp16: set `precision` to bf16 or fp32" if dtype == torch.float16 else ""


def tensor_digest(tensors: Iterable[tuple[str, Tensor]], salt: str = "") -> str:
    """sha256 over names, shapes, types and values, independent of their order."""
    total = hashlib.sha256(salt.encode())
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        total.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

"""Where a base model lies: a path, or the name of a model that is in the Hugging Face cache."""

from __future__ import annotations

import re
from pathlib import Path

from ..exceptions import ModelError
from . import single_file
from .foreign import holds_pipeline

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ADDRESS = re.compile(r"https?:/+huggingface\.co/")
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".json", ".yaml")
_CACHED = "models--"  # the cache's folder of `org/name` is `models--org--name`, with `snapshots/<commit>/` in it


def located(path: Path) -> Path:
    """The path itself, or the newest snapshot of a model in the local Hugging Face cache. Nothing is downloaded.

    Raises:
        ModelError: there is neither; it says how to get the model.
    """
    if path.exists():
        return _snapshot(path)
    name = _ADDRESS.sub("", path.as_posix()).removesuffix("/tree/main")
    if "://" in (address := path.as_posix().replace(":/", "://", 1)) and not _HUB_NAME.fullmatch(name):
        raise ModelError(f"{address} is an address; download the file and give its path, or give a model's org/name")
    if not _HUB_NAME.fullmatch(name) or path.suffix.lower() in _FILES or Path(name.partition("/")[0]).exists():
        raise ModelError(f"{path}: no such file or folder; give a diffusers folder or a .safetensors checkpoint")
    from huggingface_hub import snapshot_download  # takes a while to import
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelError(
            f"{path}: no such file or folder, and no model of that name in the Hugging Face cache; download it with "
            f"'hf download {name}', or give a diffusers folder or a .safetensors checkpoint"
        ) from error


def _snapshot(path: Path) -> Path:
    """The newest snapshot where a model's folder in the cache is given, or its `snapshots`; else the path itself."""
    folder = path if path.name == "snapshots" else path / "snapshots"
    there = folder.is_dir() and not (path / "model_index.json").exists()
    found = [child for child in folder.iterdir() if child.is_dir()] if there else []
    return max(found, key=lambda child: child.stat().st_mtime) if found else path


def name_of(path: Path) -> str:
    """What a base is called: its folder's name, its file's without suffix, or of a cached snapshot the model's."""
    path = path.resolve() if path.is_dir() else path.absolute()
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parents[1].name.startswith(_CACHED):
            return folder.parents[1].name.rpartition("--")[2]
    return path.name if path.is_dir() else path.stem


def refuse_incomplete(path: Path, missing: list[str]) -> None:
    """Refuse a folder that lacks files of a diffusers pipeline.

    Raises:
        ModelError: always; it points to what can be given instead, if that is near.
    """
    if (path / "transformer").is_dir():
        raise ModelError(f"{path} holds a transformer model (SD3, Flux, ...), which is not supported")
    if not any(path.iterdir()):
        raise ModelError(f"{path} is an empty folder; give a diffusers folder or a .safetensors checkpoint")
    above = path.absolute().parent
    if holds_pipeline(above) and (above / "model_index.json").is_file():
        raise ModelError(f"{path} is one part of a diffusers pipeline; give the whole folder, {above}")
    inside = next(filter(_is_checkpoint, sorted(path.glob("*.safetensors"))), None)
    hint = f"; did you mean the file {inside.name} in it?" if inside else ""
    if not inside and path.parent.name == "snapshots":
        hint = "; the download is incomplete: repeat it with 'hf download'"
    raise ModelError(f"{path} is not a complete diffusers pipeline: {', '.join(missing)} missing{hint}")


def _is_checkpoint(path: Path) -> bool:
    try:
        single_file.open_single_file(path)
    except ModelError:
        return False
    return True

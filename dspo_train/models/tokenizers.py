"""Find CLIP's tokenizer, which checkpoints in one file do not hold."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from transformers import CLIPTokenizer

from ..exceptions import ModelError
from .families import Family

FILES = ("vocab.json", "merges.txt")
REPOSITORIES = (  # all hold the same vocabulary; (id, folder inside)
    ("openai/clip-vit-large-patch14", None),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer"),
    ("runwayml/stable-diffusion-v1-5", "tokenizer"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer"),
)
HUB_SECONDS = 30.0  # two files of about a megabyte; an unreachable hub must not hold up a run


def load_tokenizers(family: Family, model: Path, given: Path | None) -> list[CLIPTokenizer]:
    """One tokenizer for each text encoder of the family, each padding as its encoder was trained.

    Looked for in `given` (and then nowhere else); in the model's folder and `tokenizer/` beside or in it; in the
    local Hugging Face cache; on the hub.

    Raises:
        ModelError: no place has one, or `given` has none.
    """
    if given is not None:
        folder = _in_folder(given)
        if folder is None:
            raise ModelError(f"{given}: no tokenizer there (vocab.json and merges.txt, in it or in its tokenizer/)")
    else:
        folder = _find(model)
    return [read_tokenizer(folder, pad_token=part.pad) for part in family.text_parts]


def read_tokenizer(folder: Path, pad_token: str | None = None) -> CLIPTokenizer:
    """Read one tokenizer folder; `pad_token` overrides what the folder says."""
    settings: dict[str, Any] = {} if pad_token is None else {"pad_token": pad_token}
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, **settings)
    except Exception as error:  # transformers and tokenizers raise bare Exceptions on damaged files
        raise ModelError(f"{folder}: the tokenizer cannot be read ({error})") from error


def _find(model: Path) -> Path:
    places = [model] if model.is_dir() else [model.with_suffix(""), model.parent]
    for place in places:
        folder = _in_folder(place)
        if folder is not None:
            return folder
    cached = _in_cache()
    if cached is not None:
        return cached
    failure = _Download().wait(HUB_SECONDS)
    if isinstance(failure, Path):
        return failure
    raise ModelError(
        f"{model.name} holds no tokenizer, and none was found. Tried {' and '.join(map(str, places))} (and tokenizer/ "
        f"in each), the Hugging Face cache, and the hub ({failure}). Put CLIP's vocab.json and merges.txt into "
        f"{places[-1] / 'tokenizer'}, or name a folder that has them (ComfyUI ships one: comfy/sd1_tokenizer)"
    )


def _in_folder(place: Path) -> Path | None:
    for folder in (place, place / "tokenizer"):
        if all((folder / name).is_file() for name in FILES) or (folder / "tokenizer.json").is_file():
            return folder
    return None


def _in_cache() -> Path | None:
    for repository, inside in REPOSITORIES:
        paths = [try_to_load_from_cache(repository, _path(name, inside)) for name in FILES]
        if all(isinstance(path, str) for path in paths):
            return Path(str(paths[0])).parent
    return None


def _path(name: str, inside: str | None) -> str:
    return name if inside is None else f"{inside}/{name}"


class _Download(threading.Thread):
    """The hub client retries for minutes without a network, so it runs aside and is left behind when too slow."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.result: Path | str = f"no answer in {HUB_SECONDS:.0f} s"
        self.start()

    def run(self) -> None:
        repository, inside = REPOSITORIES[0]
        try:
            _reach_hub()
            paths = [hf_hub_download(repository, _path(name, inside), etag_timeout=5) for name in FILES]
            self.result = Path(paths[0]).parent
        except Exception as error:  # whatever the client raises, the user is told once, with the places tried
            self.result = (str(error).splitlines() or [type(error).__name__])[0]

    def wait(self, seconds: float) -> Path | str:
        self.join(seconds)
        return self.result


def _reach_hub() -> None:
    """Ask once, without the client's retries: raise OSError at once where there is no network."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # the client brings certificates of its own
            raise OSError(f"{constants.ENDPOINT} cannot be reached: {error.reason}") from error

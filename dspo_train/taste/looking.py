"""Look at the images of a dataset, or at any, and learn a taste of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from ..data.split import normalised
from ..files import digest
from ..images.decode import load_rgb
from ..pairs import Scan
from ..preferences.entries import IMAGE
from ..preferences.snapshot import SetSnapshot
from .comparisons import Comparisons, from_scan, from_store
from .features import ImageFeatures
from .kept import keep_features, kept_features, rounded
from .model import TasteModel, fit_taste
from .prepared import in_parts

OnLook = Callable[[int, int], None]
_AT_ONCE = 16  # images in memory
_A_FILE = 256  # images whose features are kept at a time: what an interruption costs


def comparisons_of(scan: Scan) -> Comparisons:
    """What a dataset says, images by their paths; of a set that was collected here, with its ties.

    Raises:
        DatasetError: there is nothing to compare.
    """
    if scan.layout != "collected":
        return from_scan(scan)
    scan.usable()
    found = from_store(SetSnapshot(scan.folder))
    there = found.narrowed([name for name in found.images if (scan.folder / name).is_file()])
    return there.renamed([str(scan.folder / name) for name in there.images])


def look_at(
    images: Sequence[Path],
    prompts: Sequence[str],
    features: ImageFeatures,
    cache: Path | None = None,
    on_progress: OnLook = lambda done, total: None,
) -> np.ndarray:
    """(N, F) float32 features of image files, in float16's precision, whether kept ones are used or not.

    Args:
        prompts: of each image.
        cache: a folder to keep features in, by path, size, time and prompt of an image; None for no cache.
        on_progress: called with (images done, of all); what it raises ends the work, and what is kept is used again.

    Raises:
        DatasetError: an image cannot be read.
        RunError: the cache cannot be written.
    """
    asked = enumerate(zip(images, prompts, strict=True))
    keys = [_key(cache, image, prompt) if cache else str(row) for row, (image, prompt) in asked]
    known = kept_features(cache).get(features.identity, {}) if cache else {}
    found = {key: known[key] for key in keys if key in known}
    missing = [row for row, key in enumerate(keys) if key not in found]
    done = len(keys) - len(missing)
    on_progress(done, len(keys))
    for some in in_parts(missing, _A_FILE):
        fresh: dict[str, np.ndarray] = {}
        for rows in in_parts(some, _AT_ONCE):
            seen = features.of([load_rgb(images[row]) for row in rows], [prompts[row] for row in rows])
            fresh.update(zip((keys[row] for row in rows), rounded(seen), strict=True))
            done += len(rows)
            on_progress(done, len(keys))
        if cache:
            keep_features(cache, features.identity, fresh)
        found |= fresh
    return np.stack([found[key] for key in keys]).astype(np.float32)


def fit_scan(
    scan: Scan,
    features: ImageFeatures,
    cache: Path | None = None,
    on_progress: OnLook = lambda done, total: None,
    *,
    name: str = "",
    seed: int = 0,
    seen_by: str = "",
    without: Collection[str] = (),
) -> TasteModel:
    """Learn the taste that a dataset shows; `cache` and `on_progress` as of `look_at`, the rest as of `TasteModel`.

    Args:
        without: prompts, normalised, whose images are left out.

    Raises:
        DatasetError: there is nothing to compare, or an image cannot be read.
    """
    comparisons = comparisons_of(scan)
    if without:
        told = zip(comparisons.images, comparisons.prompts_of_images, strict=True)
        comparisons = comparisons.narrowed([image for image, prompt in told if normalised(prompt) not in without])
    paths = [Path(image) for image in comparisons.images]
    seen = look_at(paths, comparisons.prompts_of_images, features, cache, on_progress)
    return fit_taste(comparisons, seen, features.identity, name or scan.folder.name, seed, seen_by=seen_by)


def _key(cache: Path, image: Path, prompt: str) -> str:
    """Names an image in a cache: in a set that was collected here as the set does, elsewhere as it stands now."""
    own = image.relative_to(cache).as_posix() if image.is_relative_to(cache) else ""
    if IMAGE.fullmatch(own):
        return own
    try:
        state = image.stat()
    except OSError:  # reading it will say why
        return str(image)
    return f"{image.name}#{digest(image.resolve(), state.st_size, state.st_mtime_ns, prompt)[:32]}"

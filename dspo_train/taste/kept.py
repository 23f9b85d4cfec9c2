"""Features kept beside the images that they are of, so that a taste can be learned without the model.

One file for each call, `.dspo_taste/<digest>.safetensors` below the folder of the set: a float16 tensor `features` of
shape (N, F), and in its metadata, in JSON, the identity of the features and the names of the N images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from .. import files
from ..exceptions import ConfigError
from ..files.tensor_file import read_header

log = logging.getLogger("dspo")

FOLDER = ".dspo_taste"
_KEY = "dspo.taste_features"
_LARGEST = float(np.finfo(np.float16).max)


def rounded(features: np.ndarray) -> np.ndarray:
    """float16, as they are kept; what is too large for it becomes the largest that is not."""
    return np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)


def keep_features(folder: Path, identity: str, features: Mapping[str, np.ndarray]) -> None:
    """Write features below the folder of a set, in a file of their own. Any number of processes may do so at once.

    Args:
        identity: `ImageFeatures.identity`.
        features: name of an image below the folder -> (F,).

    Raises:
        RunError: the disk is full, or the folder cannot be written.
        ValueError: vectors of different lengths.
    """
    if not features:
        return
    names = sorted(features)
    rows = rounded(np.stack([features[name] for name in names]))
    about = json.dumps({"identity": identity, "names": names}, sort_keys=True)
    data = safetensors.numpy.save({"features": rows}, {_KEY: about})
    files.write_bytes(folder / FOLDER / f"{hashlib.sha256(data).hexdigest()[:32]}.safetensors", data)


def kept_features(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """All that is kept: identity -> name of an image -> (F,) float16. A damaged file is passed over, with a warning.

    Of two files with features of one image, the newer counts.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted((folder / FOLDER).glob("*.safetensors"), key=_age):
        try:
            about = json.loads(read_header(path, ConfigError).metadata[_KEY])
            identity, names = str(about["identity"]), [str(name) for name in about["names"]]
            rows = safetensors.numpy.load_file(path)["features"]
            own = dict(zip(names, rows, strict=True))
        except (ConfigError, OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: these features cannot be used and are left out (%s)", path, error)
            continue
        found.setdefault(identity, {}).update(own)
    return found


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name

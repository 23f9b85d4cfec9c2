"""Features of images as nodes want them: of all, or none, and a model that gives none stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch
from server import PromptServer

from ..dspo_train.exceptions import DspoError
from ..dspo_train.taste.kept import rounded
from .collecting import ImageVectors
from .images import to_pil

_PART = 64  # images that are copied at once

log = logging.getLogger("dspo")
_told: set[str] = set()  # what was logged already


def vectors_of(features: Any, images: torch.Tensor, prompts: Sequence[str]) -> ImageVectors:
    """
    Args:
        features: an `ImageFeatures`.
        images: (N, H, W, 3) in [0, 1]; looked at with the levels that saving gives them.

    Raises:
        ModelError: the VAE or the network gives values that are not finite.
    """
    parts = [
        features.of(to_pil(images[start : start + _PART]), prompts[start : start + _PART])
        for start in range(0, len(images), _PART)
    ]
    return ImageVectors(features.identity, rounded(np.concatenate(parts)))


def drawn_vectors(
    model: Any, clip: Any, vae: Any, images: torch.Tensor, prompts: Sequence[str], encoded: Mapping[str, Any]
) -> ImageVectors | None:
    """Features of images that were just drawn; None where there are none, which the log tells once.

    Args:
        encoded: what the CLIP gave for the prompts.
    """
    from .comfy.features import WiredFeatures
    from .comfy.model import Wired

    try:
        return vectors_of(WiredFeatures(Wired(model, clip, vae), encoded), images, prompts)
    except mm.InterruptProcessingException:
        raise
    except mm.OOM_EXCEPTION:
        reason = "not enough memory"
    except DspoError as error:
        reason = str(error)
    except Exception as error:  # foreign models raise anything, and the images are drawn
        reason = f"{type(error).__name__}: {error}"
    mm.soft_empty_cache()
    if reason not in _told:
        _told.add(reason)
        log.warning("no features of the drawn images, so the panel cannot choose its questions by them: %s", reason)
    return None


def shown_progress(node_id: str, doing: str) -> Callable[[int, int], None]:
    """Shows on a node how far it is; after Cancel, a call raises core's exception for it."""
    bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def show(done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        PromptServer.instance.send_progress_text(f"{doing}: {done} of {total} images", node_id)
        bar.update_absolute(done, total)

    return show

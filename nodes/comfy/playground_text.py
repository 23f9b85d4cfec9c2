"""The text encoder of the embedded model in ComfyUI's own classes."""

from __future__ import annotations

from typing import Any

import comfy.clip_model
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch

from .playground_files import MODEL, PRECISION, read, weights

FOLDER = MODEL / "text_encoder"


def clip() -> comfy.sd.CLIP:
    """As a checkpoint loader returns it."""
    config = read(FOLDER)
    place = "clip_l.transformer."
    state = {f"{place}text_model.{key.removeprefix('text_model.')}": value for key, value in weights(FOLDER).items()}
    state[f"{place}text_projection.weight"] = torch.eye(config["hidden_size"])  # the model has none
    target = comfy.supported_models_base.ClipTarget(Words, TextEncoder)
    parameters = comfy.utils.calculate_parameters(state)
    return comfy.sd.CLIP(target, parameters=parameters, state_dict=state, model_options={"dtype": PRECISION})


class TextEncoder(comfy.sd1_clip.SD1ClipModel):
    """Holds the encoder under the name that LoRA files give it."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=ShapesText)


class ShapesText(comfy.sd1_clip.SDClipModel):
    """The embedded text encoder, which takes 16 tokens at once."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        config = read(FOLDER)
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            max_length=config["max_position_embeddings"],
            textmodel_json_config=config,
            model_class=SmallVocabulary,
            special_tokens={name: config[f"{key}_token_id"] for name, key in SPECIAL.items()},
            return_projected_pooled=False,
        )


SPECIAL = {"start": "bos", "end": "eos", "pad": "pad"}  # core's names -> those in the config


class SmallVocabulary(comfy.clip_model.CLIPTextModel):
    """Core's text model, which has CLIP's vocabulary whatever the config says."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        size = (config["vocab_size"], config["hidden_size"])
        self.set_input_embeddings(operations.Embedding(*size, dtype=dtype, device=device))


class Words(comfy.sd1_clip.SD1Tokenizer):
    """Core's tokenizer with the embedded vocabulary; textual inversions are of other models' width."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        super().__init__(tokenizer_data=tokenizer_data or {}, tokenizer=ShapesTokenizer)


class ShapesTokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        config = read(FOLDER)
        super().__init__(
            str(MODEL / "tokenizer"),
            max_length=config["max_position_embeddings"],
            embedding_directory=embedding_directory,
            embedding_size=config["hidden_size"],
            tokenizer_data=tokenizer_data or {},
        )

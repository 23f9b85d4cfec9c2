"""What a safetensors file is that is not a base model: said by most of its tensors, not by the first that matches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..exceptions import ModelError
from .families import UNET_PREFIX, Shapes

LYCORIS = ("hada_w", "lokr_w", "oft_blocks", "oft_diag")  # parts of its tensors' keys
_ADAPTERS = (  # parts of keys -> what a file is that mostly has such keys
    (("lora_up.", "lora_down.", "lora_A.", "lora_B.", "lora.up.", "lora.down.", "lora_mid."), "a LoRA"),
    ((*LYCORIS, "lora_unet_", "lycoris_"), "a LyCORIS adapter"),
)
_FOREIGN = (  # parts of keys -> what a file is that has such a key; the first match counts
    (("joint_blocks.",), "a Stable Diffusion 3 model"),
    (("double_blocks.", "double_stream"), "a Flux model"),
    (("control_model.", "controlnet_", "input_hint_block."), "a ControlNet"),
    (("emb_params", "string_to_param"), "a textual-inversion embedding"),
)
_ALONE = (  # parts of keys -> what a file is that mostly has such keys
    (("down_blocks.", "up_blocks.", "mid_block."), "one component of a diffusers pipeline"),
    (("input_blocks.", "output_blocks.", "middle_block."), "a UNet alone; the VAE and the text encoder are missing"),
    (("encoder.down.", "decoder.up.", "decoder.conv_", "decoder.mid."), "a VAE alone"),
    (("text_model.", "resblocks.", "encoder.layers.", "token_embedding"), "a text encoder alone"),
)
_QUANTISED = (  # parts of keys -> the format
    (("scaled_fp8", ".scale_weight", ".scale_input"), "scaled fp8"),
    ((".comfy_quant", ".weight_scale", ".input_scale"), "ComfyUI's quantised layers"),
    (("quant_state.bitsandbytes", ".absmax", ".quant_map"), "bitsandbytes nf4 or fp4"),
    ((".SCB", ".weight_format"), "bitsandbytes int8"),
    ((".qweight", ".qzeros", ".scales"), "GPTQ or AWQ"),
)
_MOST = 0.9  # of the keys
_WANTED = "a Stable Diffusion 1.x, 2.x or XL checkpoint is needed"


def refuse_foreign(path: Path, shapes: Shapes, dtypes: Mapping[str, str]) -> None:
    """Refuse a safetensors file that is not a whole base model in ordinary precision.

    Args:
        shapes: of its tensors, by key.
        dtypes: of its tensors, in safetensors' spelling.

    Raises:
        ModelError: it says what the file is and what to give instead.
    """
    for parts, what in _ADAPTERS:
        if _share(shapes, parts) >= 0.5:
            raise ModelError(f"{path} is {what}, not a base model; {_WANTED}")
    if how := _quantised(shapes, dtypes):
        raise ModelError(
            f"{path} is quantised ({how}), and such weights are not read; give the fp16, bf16 or fp32 file of the same "
            "model"
        )
    if f"{UNET_PREFIX}input_blocks.0.0.weight" in shapes:
        return
    if what := what_else(shapes):
        whole = _whole(path, what)
        raise ModelError(
            f"{path} is {what}{whole}" if whole else f"{path} is {what}, which is not supported; {_WANTED}"
        )
    if not shapes:
        raise ModelError(f"{path} holds no tensors; {_WANTED}")
    raise ModelError(
        f"{path} holds no Stable Diffusion UNet: no {UNET_PREFIX}input_blocks.0.0.weight among its tensors "
        f"({next(iter(shapes))!r}, ...); {_WANTED}"
    )


def what_else(shapes: Shapes) -> str:
    """What a file is that is neither a LoRA nor a base model; empty if nothing known."""
    found = [what for parts, what in _FOREIGN if _share(shapes, parts)]
    found += [what for parts, what in _ALONE if _share(shapes, parts) > _MOST]
    return next(iter(found), "")


def _share(shapes: Shapes, parts: tuple[str, ...]) -> float:
    """The share of a file's keys that hold one of these parts."""
    return sum(any(part in key for part in parts) for key in shapes) / max(len(shapes), 1)


def holds_pipeline(folder: Path) -> bool:
    """Is it a diffusers pipeline's folder, by its UNet?"""
    return (folder / "unet" / "config.json").is_file()


def _quantised(shapes: Shapes, dtypes: Mapping[str, str]) -> str:
    """The format of quantised weights; empty for ordinary ones."""
    for parts, how in _QUANTISED:
        if any(part in key for key in shapes for part in parts):
            return how
    whole = {dtypes.get(key, "") for key, shape in shapes.items() if len(shape) > 1 and key.endswith(".weight")}
    packed = sorted(whole & {"I8", "U8", "I32", "U32"})
    return f"{packed[0]} weights" if packed else ""


def _whole(path: Path, what: str) -> str:
    """Which folder to give instead of one component's file."""
    folder = path.absolute().parent.parent
    if holds_pipeline(folder):
        return f"; give the whole folder, {folder}"
    return "; give the folder that holds unet/, vae/ and the rest" if "component" in what else ""

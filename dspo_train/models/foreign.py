"""What a file is that is not a base model: said by its content, not by its name or by the first thing that matches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..exceptions import ModelError
from .families import UNET_PREFIX, Shapes

_ADAPTERS = (  # parts of keys -> what a file is that mostly has such keys
    (("lora_up.", "lora_down.", "lora_A.", "lora_B.", "lora.up.", "lora.down.", "lora_mid."), "a LoRA"),
    (("hada_w", "lokr_w", "oft_blocks", "oft_diag", ".diff_b"), "a LyCORIS adapter"),
)
_FOREIGN = (  # parts of keys -> what a file is that has such a key; the first match counts
    (("joint_blocks.",), "a Stable Diffusion 3 model, which is not supported"),
    (("double_blocks.", "double_stream"), "a Flux model, which is not supported"),
    (("control_model.", "controlnet_", "input_hint_block."), "a ControlNet, not a base model"),
    (("emb_params", "string_to_param"), "a textual-inversion embedding, not a base model"),
    (("down_blocks.",), "one component of a diffusers pipeline"),
    (("input_blocks.0.0.weight",), "a UNet alone; the VAE and the text encoder are missing"),
    (("decoder.conv_in.weight",), "a VAE alone"),
    (("text_model.", "resblocks."), "a text encoder alone"),
)
_QUANTISED = (  # parts of keys -> the format
    (("scaled_fp8", ".scale_weight", ".scale_input"), "scaled fp8"),
    ((".comfy_quant", ".weight_scale", ".input_scale"), "ComfyUI's quantised layers"),
    (("quant_state.bitsandbytes", ".absmax", ".quant_map"), "bitsandbytes nf4 or fp4"),
    ((".SCB", ".weight_format"), "bitsandbytes int8"),
    ((".qweight", ".qzeros", ".scales"), "GPTQ or AWQ"),
)
_PICKLE = "is a pickle, whatever its name (a pickle can run code); convert it to .safetensors"
_PAGE = "is a web page, not a model: the download was refused or needed a login; download it in a browser"
_SOME_OTHER = (  # the first bytes -> what the file is
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"GGUF", "is a GGUF file, whose quantised weights are not read; give the .safetensors of the same model"),
    (b"PK\x03\x04", _PICKLE),  # torch.save writes a zip archive around it
    *((b"\x80" + bytes([protocol]), _PICKLE) for protocol in range(2, 6)),
    *((start, _PAGE) for start in (b"<!", b"<html", b"<HTML", b"<?xml")),
    (b'{"error', "is an error message of the server, not a model; download it in a browser"),
    (b"Rar!", "is an archive; unpack it"),
    (b"7z\xbc\xaf", "is an archive; unpack it"),
    (b"\x1f\x8b", "is an archive; unpack it"),
)
_OTHER_NAMES = (".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
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
        if sum(any(part in key for part in parts) for key in shapes) * 2 > len(shapes):
            raise ModelError(f"{path} is {what}, not a base model; {_WANTED}")
    if how := _quantised(shapes, dtypes):
        raise ModelError(
            f"{path} is quantised ({how}), and such weights are not read; give the fp16, bf16 or fp32 file of the same "
            "model"
        )
    if f"{UNET_PREFIX}input_blocks.0.0.weight" in shapes:
        return
    for parts, what in _FOREIGN:
        if any(part in key for key in shapes for part in parts):
            raise ModelError(f"{path} is {what}{_whole(path) if 'component' in what else ''}; {_WANTED}")
    example = next(iter(shapes), "nothing")
    raise ModelError(
        f"{path} holds no Stable Diffusion UNet: no {UNET_PREFIX}input_blocks.0.0.weight among its tensors "
        f"({example!r}, ...); {_WANTED}"
    )


def damage(path: Path) -> str:
    """What is wrong with a file that cannot be read as safetensors, and what to do."""
    with path.open("rb") as file:
        start = file.read(40)
    for magic, what in _SOME_OTHER:
        if start.lstrip()[: len(magic)] == magic:
            return what
    if (suffix := path.suffix.lower()) in _OTHER_NAMES:
        return f"is not a safetensors file, and {suffix} files are not read; convert it to .safetensors"
    size = f"{path.stat().st_size:,} bytes"
    if start and not start.strip(b"\0"):
        return f"begins with zeros: {size}, not fully downloaded or copied; download it again"
    return f"cannot be read as safetensors: {size}, damaged or not fully downloaded; download it again"


def _quantised(shapes: Shapes, dtypes: Mapping[str, str]) -> str:
    """The format of quantised weights; empty for ordinary ones."""
    for parts, how in _QUANTISED:
        if any(part in key for key in shapes for part in parts):
            return how
    whole = {dtypes.get(key, "") for key, shape in shapes.items() if len(shape) > 1 and key.endswith(".weight")}
    packed = sorted(whole & {"I8", "U8", "I32", "U32"})
    return f"{packed[0]} weights" if packed else ""


def _whole(path: Path) -> str:
    """Which folder to give instead of one component's file."""
    folder = path.absolute().parent.parent
    there = (folder / "unet" / "config.json").is_file()
    return f": give its folder, {folder}" if there else ": give the folder that holds unet/, vae/ and the rest"

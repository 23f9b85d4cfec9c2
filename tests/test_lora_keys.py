"""Layer names: between diffusers' paths, the original code's and kohya's, without guessing at underscores."""

from __future__ import annotations

import pytest
from tiny_lora import full_size_unet
from tiny_models import ldm_unet, tiny_unet

from dspo_train.exceptions import LoraFileError
from dspo_train.lora.keys import describe, kohya_name, name_table, resolve, split_key
from dspo_train.lora.layers import adaptable_layers
from dspo_train.models.families import FAMILIES
from dspo_train.models.unet_names import BlockLayout, ldm_path

SD15 = BlockLayout((2, 2, 2, 2), (False, True, True, True))
SDXL = BlockLayout((2, 2, 2), (True, True, False))


@pytest.mark.parametrize(
    ("layout", "names", "path", "name"),
    [
        (
            SD15,
            "diffusers",
            "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_out_0",
        ),
        (SD15, "ldm", "down_blocks.0.attentions.1.proj_in", "lora_unet_input_blocks_2_1_proj_in"),
        (SD15, "ldm", "down_blocks.2.downsamplers.0.conv", "lora_unet_input_blocks_9_0_op"),
        (SD15, "ldm", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_1_conv"),
        (SD15, "ldm", "up_blocks.1.upsamplers.0.conv", "lora_unet_output_blocks_5_2_conv"),
        (SD15, "ldm", "up_blocks.3.attentions.2.proj_out", "lora_unet_output_blocks_11_1_proj_out"),
        (
            SDXL,
            "ldm",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        ),
        (
            SDXL,
            "diffusers",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        (
            SDXL,
            "ldm",
            "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
            "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj",
        ),
        (
            SDXL,
            "ldm",
            "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_k",
            "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_k",
        ),
        (SDXL, "ldm", "up_blocks.0.resnets.1.time_emb_proj", "lora_unet_output_blocks_1_0_emb_layers_1"),
        (SDXL, "ldm", "mid_block.resnets.1.conv1", "lora_unet_middle_block_2_in_layers_2"),
        (SDXL, "ldm", "add_embedding.linear_2", "lora_unet_label_emb_0_2"),
    ],
)
def test_kohya_names(layout: BlockLayout, names: str, path: str, name: str) -> None:
    assert kohya_name(path, layout, names) == name  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_ldm_paths_of_every_layer_agree_with_the_single_file_writer(family: str) -> None:
    """The tests' own writer of original checkpoints numbers the blocks independently."""
    unet = full_size_unet(family)
    original = dict(zip(unet.state_dict(), ldm_unet(unet), strict=True))
    layers = adaptable_layers(unet)
    layout = BlockLayout.of(unet.config)
    assert {p: ldm_path(p, layout) + ".weight" for p in layers} == {p: original[f"{p}.weight"] for p in layers}


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_every_spelling_of_every_layer_is_resolved_to_it(family: str) -> None:
    unet = full_size_unet(family)
    paths, layout = list(adaptable_layers(unet)), BlockLayout.of(unet.config)
    table = name_table(paths, layout)
    for path in paths:
        original = ldm_path(path, layout)
        spellings = [
            path,
            f"unet.{path}",
            f"base_model.model.{path}",
            f"unet.base_model.model.{path}",
            f"base_model.model.unet.{path}",
            f"diffusion_model.{original}",
            f"model.diffusion_model.{original}",
            kohya_name(path, layout, "diffusers"),
            kohya_name(path, layout, "ldm"),
            "lycoris_" + path.replace(".", "_"),
        ]
        assert [resolve(name, table) for name in spellings] == [path] * len(spellings)


def test_the_families_block_names() -> None:
    names = {name: family.lora.blocks for name, family in FAMILIES.items()}
    assert names == {"sd15": "diffusers", "sd2": "diffusers", "sdxl": "ldm"}


def test_layouts_from_configs() -> None:
    assert BlockLayout.of(full_size_unet("sd15").config) == SD15
    assert BlockLayout.of(full_size_unet("sdxl").config) == SDXL
    uneven = {
        "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
        "layers_per_block": [1, 3],
    }
    layout = BlockLayout.of(uneven)
    assert layout == BlockLayout((1, 3), (False, False))
    assert ldm_path("down_blocks.1.resnets.2.conv1", layout) == "input_blocks.5.0.in_layers.2"
    assert ldm_path("up_blocks.1.resnets.1.conv1", layout) == "output_blocks.5.0.in_layers.2"  # after 3 + 1 blocks


@pytest.mark.parametrize("name", ["unet.nothing", "lora_unet_nothing", "lora_te_x", "text_encoder.proj_in", "unet."])
def test_unknown_names_are_resolved_to_nothing(name: str) -> None:
    unet = tiny_unet("sd15")
    assert resolve(name, name_table(adaptable_layers(unet), BlockLayout.of(unet.config))) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.lora_down.weight", ("a", "down")),
        ("a.lora_up.weight", ("a", "up")),
        ("a.alpha", ("a", "alpha")),
        ("a.lora_A.weight", ("a", "down")),
        ("a.lora_B.default.weight", ("a", "up")),
        ("a.lora_A", ("a", "down")),
        ("a.lora.up.weight", ("a", "up")),
        ("a.lora_linear_layer.down.weight", ("a", "down")),
        ("attn1.processor.to_q_lora.up.weight", ("attn1.processor.to_q", "up")),
        ("a.lora_mid.weight", None),
        ("a.dora_scale", None),
        ("a.lora_A.bias", None),
        ("a.lora_B.bias", None),
        ("a.lora_magnitude_vector.default.weight", None),
        ("a.weight", None),
        ("alpha", None),
    ],
)
def test_keys_are_split(key: str, expected: tuple[str, str] | None) -> None:
    assert split_key(key) == expected


def test_old_attention_processors_are_resolved() -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    table = name_table([path], SD15)
    assert resolve("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out", table) == path


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "of the text encoder"),
        ("text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", "of the text encoder"),
        ("lora_unet_x.lora_mid.weight", "of LoCon (middle factors)"),
        ("lora_unet_x.dora_scale", "of DoRA (magnitudes)"),
        ("lora_unet_x.hada_w1_a", "of LoHa, LoKr, OFT or GLoRA"),
        ("lora_unet_x.diff_b", "of norms, biases or full differences"),
        ("lora_unet_x.lora_up.weight", "of layers that this base lacks"),
        ("bundle_emb", "of an unknown kind"),
    ],
)
def test_unused_keys_are_described(key: str, words: str) -> None:
    assert describe(key) == words


def test_a_layer_outside_the_original_architecture_is_refused() -> None:
    with pytest.raises(LoraFileError, match=r"'transformer_blocks\.0\.attn\.to_q' has no name"):
        ldm_path("transformer_blocks.0.attn.to_q", SDXL)

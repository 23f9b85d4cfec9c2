"""DSPO A/B Grid: one captioned image to keep or to post."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io, ui

from ..dspo_train.files.names import parts_of
from ..dspo_train.sheets.side_by_side import GridText, batches_grid
from .images import to_pil, to_tensor
from .sockets import CATEGORY


class ABGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOABGrid",
            display_name="DSPO A/B Grid",
            category=CATEGORY,
            description="Arranges images without and with the LoRA side by side, with captions, and saves the sheet.",
            is_output_node=True,
            inputs=[
                io.Image.Input("base", tooltip="Images without the LoRA, one per row."),
                io.Image.Input(
                    "aligned", tooltip="Images with the LoRA: all rows at the first strength, then all at the next."
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt per line. With fewer lines than rows, each line covers an equal number of "
                    "consecutive rows.",
                ),
                io.String.Input("strengths", default="1.0", tooltip="Strengths of the columns, separated by commas."),
                io.String.Input("title", default="", tooltip="Heading of the sheet; may be empty."),
                io.Combo.Input("theme", options=["light", "dark"], default="light", tooltip="Colours of the sheet."),
                io.String.Input(
                    "filename_prefix",
                    default="dspo/ab_grid",
                    tooltip="Where the sheet is saved, below ComfyUI's output folder.",
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    optional=True,
                    tooltip="Seeds of the rows, separated by commas; shown in small print under the images.",
                ),
            ],
            outputs=[io.Image.Output("grid", display_name="grid", tooltip="The sheet.")],
        )

    @classmethod
    def execute(
        cls,
        base: torch.Tensor,
        aligned: torch.Tensor,
        prompts: str,
        strengths: str,
        title: str,
        theme: str,
        filename_prefix: str,
        seeds: str = "",
    ) -> io.NodeOutput:
        parts_of(filename_prefix, "the sheet's filename_prefix")
        captions = GridText(prompts=prompts, strengths=strengths, seeds=seeds, title=title)
        sheet = batches_grid(to_pil(base), to_pil(aligned), captions, theme)
        image = to_tensor([sheet])
        return io.NodeOutput(image, ui=ui.ImageSaveHelper.get_save_images_ui(image, filename_prefix, cls))

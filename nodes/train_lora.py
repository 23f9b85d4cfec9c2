"""DSPO Train LoRA: from pairs to a LoRA, inside the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..dspo_train.files.words import many
from ..dspo_train.objectives import OBJECTIVES
from ..dspo_train.runs.continuing import CHOICES
from ..dspo_train.runs.presets import PRESETS
from . import places
from .fresh_clicks import Waiting, fresh_stamp
from .images import to_tensor
from .loaded_name import loaded_name
from .lora_lineage import carried, stems
from .setting_inputs import FOLDED, errors_in_graph, setting_input, setting_inputs
from .sockets import CATEGORY, LoraModel, LossMap, Pairs, PairSet, TrainOptions


class TrainLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOTrainLora",
            display_name="DSPO Train LoRA",
            category=CATEGORY,
            description="Trains a LoRA on preference pairs. A stopped run resumes where it stopped; a finished one is "
            "not trained again.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[*_first_inputs(), *_sockets(), *_expert_inputs(), *_later_inputs()],
            outputs=[
                LoraModel.Output("lora", display_name="lora", tooltip="The LoRA, for a loader node."),
                io.String.Output("lora_name", display_name="lora name", tooltip="Its name in ComfyUI's LoRA list."),
                LossMap.Output(
                    "losses", display_name="loss map", tooltip="The loss of every step, for ComfyUI's own plot."
                ),
                io.Image.Output("curve", display_name="curve", tooltip="Margin, accuracy and errors over the steps."),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, name: str | None = None, refine_lora: str | None = None, fresh_clicks: int | None = 0, **_: object
    ) -> str:
        """Changes when a file behind a name does, with fresh clicks, or to deliver a finished LoRA again."""
        fresh = fresh_stamp(name, Path(folder_paths.get_input_directory())) if fresh_clicks else ""
        return f"{places.train_stamp(name, refine_lora)} {fresh}".strip()

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any, pairs: PairSet, name: str, **settings: Any) -> io.NodeOutput:
        from .comfy.model import Wired
        from .training import Order, train

        graph, node = cls.hidden.prompt or {}, cls.hidden.unique_id
        wired = Wired(model, clip, vae, loaded_name(graph, node, "model"), stems(carried(cls, model)))
        workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")
        order = Order(wired, pairs, name, settings, node, graph, workflow)
        try:
            with errors_in_graph(), torch.inference_mode(False), torch.enable_grad():
                done = train(order)
        except Waiting as wait:
            text = f"{many(wait.open, 'click')} wanted on new images: vote on {wait.name} in the panel, then run again."
            return io.NodeOutput(*[ExecutionBlocker(None)] * 4, ui={"text": [text]})
        curve = to_tensor([done.curve])
        shown = ui.PreviewImage(curve, cls=cls)
        return io.NodeOutput(done.lora, done.name, {"loss": done.losses}, curve, ui=shown)


def _first_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip="The model to train for, as it is wired: from any loader, quantised or not, with merges and LoRAs. "
            "It is not changed itself.",
        ),
        io.Clip.Input("clip", tooltip="The model's text encoder, which reads the prompts of the pairs."),
        io.Vae.Input("vae", tooltip="The model's VAE, which encodes the images of the pairs."),
        Pairs.Input("pairs", tooltip="From DSPO Preference Set."),
        io.String.Input(
            "name",
            default="my-taste",
            tooltip="Name of the LoRA. A number is added; changed settings make a new LoRA, and none is overwritten.",
        ),
        io.Combo.Input(
            "preset",
            options=[name.capitalize() for name in PRESETS],
            default="Balanced",
            tooltip="Gentle: strength 10, rank 8, learning rate 5e-5. Balanced: 30, 16, 1e-4. "
            "Strong: 100, rank 32 and the MLP layers too, 2e-4.",
        ),
        setting_input("train", "steps"),
        io.String.Input(
            "preview_prompt",
            default="",
            multiline=True,
            tooltip="Prompt of the previews, which show the base model and the LoRA so far. Empty: the first pair's.",
        ),
        io.Int.Input(
            "preview_every", default=50, min=0, max=100_000, tooltip="Steps between previews. 0: no previews."
        ),
    ]


def _sockets() -> list[io.Input]:
    return [
        io.Combo.Input(
            "refine_lora",
            options=[places.NO_LORA, *places.loras()],
            default=places.NO_LORA,
            optional=True,
            tooltip="A LoRA to start from: it becomes the reference, and the new LoRA contains it. LoRAs that are "
            "wired in with the model are not contained.",
        ),
    ]


def _expert_inputs() -> list[io.Input]:
    return [
        setting_input("train", "objective", optional=True, choices=list(OBJECTIVES)),
        io.String.Input(
            "objective_value",
            default="",
            optional=True,
            tooltip="The objective's main argument: strength of dspo, sharpness of diffusion_dpo, beta of dspo_paper. "
            "Empty: the preset's for dspo, the usual value for the others.",
            extra_dict=FOLDED,
        ),
        *setting_inputs("train", after="objective", optional=True),
        io.Combo.Input(
            "gradient_checkpointing",
            options=["auto", "on", "off"],
            default="auto",
            optional=True,
            tooltip="Saves memory at the cost of one more forward pass per step. auto: on if the run would not fit "
            "otherwise.",
            extra_dict=FOLDED,
        ),
    ]


def _later_inputs() -> list[io.Input]:
    """After all others: saved workflows store widget values by position."""
    return [
        TrainOptions.Input(
            "options",
            optional=True,
            tooltip="From DSPO Training Options: held-out pairs, early stop, a negative LoRA, safeguards.",
        ),
        io.Combo.Input(
            "continue_from",
            options=list(CHOICES),
            default=CHOICES[0],
            optional=True,
            tooltip="When you raise the steps and change nothing else. auto: goes on from the last state of the run "
            "with fewer steps, in a new run and with the learning rate of the new length. from scratch: trains all "
            "steps anew.",
            extra_dict=FOLDED,
        ),
        io.Int.Input(
            "rounds",
            default=1,
            min=1,
            max=20,
            optional=True,
            tooltip="1: trains on your clicks. More: then the model draws the set's prompts itself, a model of your "
            "taste compares the images, the training goes on from there, and again. It ends by itself where your taste "
            "is no longer known or images stop showing their prompt.",
        ),
        io.Int.Input(
            "fresh_clicks",
            default=0,
            min=0,
            max=50,
            optional=True,
            tooltip="Clicks to ask you for before each further round, on what the model draws by then; 10 keep the "
            "model of your taste right. The run waits for them: vote in the panel, then run again. 0: goes on without "
            "you.",
            extra_dict=FOLDED,
        ),
    ]

"""DSPO Training Options: what a training may do besides its preset."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..dspo_train.config.options import PLAIN, Options, Sharpness, limits
from ..dspo_train.config.specs import Keep, Labels
from .sockets import CATEGORY, TrainOptions


class TrainingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOTrainingOptions",
            display_name="DSPO Training Options",
            category=CATEGORY,
            description="What a training may do besides its preset: swap the labels, measure itself on pairs kept from "
            "it and stop early, average its weights, guard the winners. For the input options of DSPO Train LoRA.",
            inputs=[*_outcome_inputs(), *_held_out_inputs(), *_loss_inputs(), *_data_inputs()],
            outputs=[TrainOptions.Output("options", display_name="options", tooltip="For DSPO Train LoRA.")],
        )

    @classmethod
    def execute(cls, **options: Any) -> io.NodeOutput:
        return io.NodeOutput(Options(**options))


def number(name: str, tooltip: str, **more: Any) -> io.Input:
    """With the library's own default and range."""
    default, (low, high) = getattr(PLAIN, name), limits(name)
    kind = io.Float if isinstance(default, float) else io.Int
    return kind.Input(name, tooltip=tooltip, default=default, min=low, max=high, **more)


def choice(name: str, options: Any, tooltip: str) -> io.Input:
    return io.Combo.Input(name, options=list(get_args(options)), default=getattr(PLAIN, name), tooltip=tooltip)


def _outcome_inputs() -> list[io.Input]:
    return [
        choice(
            "labels",
            Labels,
            "given: towards what is preferred. swapped: towards what is not, which makes a negative LoRA for DSPO "
            "Negative LoRA.",
        ),
        choice(
            "keep",
            Keep,
            "Which weights become the LoRA. last: those of the last step. best: those of the best measurement on "
            "held-out pairs, which needs a held-out share.",
        ),
    ]


def _held_out_inputs() -> list[io.Input]:
    return [
        number(
            "held_out_share",
            "Part of the pairs, by whole prompts, that is not trained on but measured. 0.1 is a good start; 0: none.",
            step=0.01,
        ),
        number("held_out_every", "Steps between two measurements on the held-out pairs.", step=1),
        number(
            "held_out_patience",
            "Early stop: the training ends after so many measurements without a better one, and the best becomes the "
            "LoRA. 0: it goes on to its last step.",
            step=1,
        ),
        number(
            "ema",
            "Averages the weights over the last steps: 0.95 over about 20. The average is what is measured and saved. "
            "0: none.",
            **{"step": 0.001, "round": 0.00001},
        ),
    ]


def _loss_inputs() -> list[io.Input]:
    return [
        number("sft_mix", "Adds so much of the winner's own error to the loss, such as 0.25. 0: nothing.", step=0.05),
        number(
            "label_smoothing",
            "Share of the labels that you think are wrong, such as 0.1. Needs an objective that trains on the loser.",
            **{"step": 0.01, "round": 0.001},
        ),
        number(
            "safeguard",
            "Holds the push away from the loser back where it would spoil the winner; 0.2 to 0.9. Needs an objective "
            "that trains on the loser. 0: off.",
            step=0.05,
        ),
        number(
            "margin_cap",
            "Pairs beyond this margin train no further, such as 0.001. Needs an objective that trains on the loser. "
            "0: off.",
            **{"step": 0.0001, "round": 0.000001},
        ),
        choice(
            "sharpness",
            Sharpness,
            "Weighs pairs that are learned already down. value: by the number below. auto: as the run's own margins "
            "ask for. Of objectives with a sharpness of their own it is that.",
        ),
        number(
            "sharpness_value",
            "The sharpness, where value is chosen above. dspo has 4 by itself; where margins are thousandths, hundreds "
            "to thousands.",
            **{"step": 10.0, "round": 0.01},
        ),
        number(
            "moving_reference",
            "How much of the reference is kept in each step while it follows the training, such as 0.999. Not with a "
            "LoRA to refine. 0: the reference stays as it is.",
            **{"step": 0.001, "round": 0.000001},
        ),
        number(
            "min_snr",
            "Weighs timesteps with little noise down; 5 is usual. 0: off.",
            **{"step": 0.5, "round": 0.001},
        ),
    ]


def _data_inputs() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "one_per_prompt",
            default=PLAIN.one_per_prompt,
            tooltip="Of several pairs with the same prompt train only one, chosen by the seed.",
        ),
        number("least_noise", "Timesteps are drawn from here on: 0 is a clean picture, 1 is noise.", step=0.05),
        number("most_noise", "Timesteps are drawn up to here: 0 is a clean picture, 1 is noise.", step=0.05),
    ]

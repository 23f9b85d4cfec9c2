"""The settings that DSPO nodes share with KSampler, and the size of what they draw."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io


def sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Denoising steps, as in KSampler."),
        io.Float.Input(
            "cfg",
            default=7.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Classifier-free guidance, as in KSampler.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=comfy.samplers.KSampler.SAMPLERS,
            default="dpmpp_2m",
            tooltip="The sampler, as in KSampler.",
        ),
        io.Combo.Input(
            "scheduler",
            options=comfy.samplers.KSampler.SCHEDULERS,
            default="karras",
            tooltip="The spacing of the noise levels, as in KSampler.",
        ),
    ]


def size_inputs() -> list[io.Input]:
    limits = {"default": 512, "min": 16, "max": 16384, "step": 8}
    return [
        io.Int.Input("width", **limits, tooltip="Width of the images, in pixels."),
        io.Int.Input("height", **limits, tooltip="Height of the images, in pixels."),
    ]

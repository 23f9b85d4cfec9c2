"""DSPO Playground: the embedded model of shapes, to try everything without a checkpoint."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .sockets import CATEGORY

MODELS = ("shapes", "shapes-flow")  # the keys of `comfy.playground.MODELS`


class Playground(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOPlayground",
            display_name="DSPO Playground",
            category=CATEGORY,
            description="A tiny model of simple shapes that comes with DSPO Studio and draws in seconds on any "
            "computer, to try the whole loop without a checkpoint. Prompts are 'a COLOUR SHAPE', such as 'a red "
            "circle' or 'a orange star' (not 'an'): red, orange, yellow, green, teal, blue, purple or pink; circle, "
            "square, triangle, star, heart or cross. Draw at 64 x 64 pixels with a cfg of 2.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    default=MODELS[0],
                    optional=True,  # for graphs from before there was a choice
                    tooltip="shapes: a small Stable Diffusion with v prediction. shapes-flow: the same network as a "
                    "flow model, sampled and trained as FLUX, Z-Image or Qwen-Image are. Both draw the same shapes.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="Its UNet, for KSampler and LoRA loaders."),
                io.Clip.Output("clip", display_name="clip", tooltip="Its text encoder, for CLIP Text Encode."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its VAE, for VAE Decode and VAE Encode."),
            ],
        )

    @classmethod
    def execute(cls, model: str = MODELS[0]) -> io.NodeOutput:
        from .comfy import playground  # reads core's model classes, which a server without prompts does not need

        return io.NodeOutput(*playground.load(model))

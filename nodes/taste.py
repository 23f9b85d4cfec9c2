"""DSPO Taste: from votes to a model of the taste, in seconds, without training the image model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import io, ui

from . import places
from .images import to_tensor
from .loaded_name import loaded_name
from .setting_inputs import errors_in_graph
from .sockets import CATEGORY, Pairs, PairSet, Taste

_written: dict[Path, tuple[int, int]] = {}  # tastes of this process, and what their files were like
_lost: dict[Path, int] = {}  # how often one was found deleted or replaced


class LearnTaste(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOTaste",
            display_name="DSPO Taste",
            category=CATEGORY,
            description="Learns which images you prefer, from your votes and from how the model sees the images. Takes "
            "seconds; nothing is trained. Says how well your taste is known, and what more votes would bring.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model through which the images are looked at: the one that drew them, without a LoRA "
                    "of your taste. It is not changed.",
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder, which reads the prompts."),
                io.Vae.Input("vae", tooltip="The model's VAE, which encodes the images."),
                Pairs.Input("pairs", tooltip="From DSPO Preference Set, or from DSPO Collect Pairs."),
                io.String.Input(
                    "name",
                    default="my-taste",
                    tooltip="Name of the taste's file in output/dspo/tastes. A taste of that name is replaced, so that "
                    "more votes improve it.",
                ),
            ],
            outputs=[
                Taste.Output("taste", display_name="taste", tooltip="The taste, for DSPO Score Images."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How well the taste is known, and whether it is right as often as it says.",
                ),
                io.Image.Output("chart", display_name="chart", tooltip="How often it was right, over how sure it was."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: object) -> str:
        """Changes when the file that was written is not there any more; votes change what comes in by `pairs`."""
        return str(_losses(places.taste(name))) if name else ""

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any, pairs: PairSet, name: str) -> io.NodeOutput:
        from ..dspo_train.taste.charts import reliability_chart
        from ..dspo_train.taste.report import report_text
        from .comfy.features import WiredFeatures
        from .comfy.model import Wired
        from .learning_taste import Learning, learned

        file, node = places.taste(name), cls.hidden.unique_id
        wired = Wired(model, clip, vae, loaded_name(cls.hidden.prompt or {}, node, "model"))
        with errors_in_graph():
            found = learned(pairs.scan, WiredFeatures(wired), Learning(file.stem, node, wired.name))
            found.save(file)
        _written[file] = places.stamp(file)
        report = report_text(found.assessment)
        chart = to_tensor([reliability_chart(found.assessment, title=file.stem)])
        shown = {**ui.PreviewImage(chart, cls=cls).as_dict(), "text": [found.assessment.text]}
        return io.NodeOutput(found, report, chart, ui=shown)


def _losses(file: Path) -> int:
    """How many calls found the file that was written last gone, or another in its place."""
    was = _written.get(file)
    if was is not None and (not file.exists() or places.stamp(file) != was):
        del _written[file]  # written again, it is noted again
        _lost[file] = _lost.get(file, 0) + 1
    return _lost.get(file, 0)

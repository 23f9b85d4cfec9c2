"""DSPO Preference Set: choose and inspect labelled pairs, or liked and disliked images."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..dspo_train.pairs.discover import stamp
from . import places
from .images import to_tensor
from .pair_sets import pair_set
from .setting_inputs import FOLDED
from .sockets import CATEGORY, Pairs

PAIRS, OPINIONS = "pairs", "opinions"


class PreferenceSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOPreferenceSet",
            display_name="DSPO Preference Set",
            category=CATEGORY,
            description="Reads a folder of preference pairs (two images of one prompt, one of them better), or of "
            "single images that were liked or disliked.",
            inputs=[
                io.Combo.Input(
                    "dataset",
                    options=places.datasets(),
                    tooltip="A folder of pairs, or of liked and disliked images, in ComfyUI's input folder or below a "
                    "folder listed under dspo_datasets in extra_model_paths.yaml.",
                ),
                io.Int.Input(
                    "shown",
                    default=12,
                    min=1,
                    max=200,
                    tooltip="How many pairs, or liked and disliked images, the contact sheet shows, spread evenly over "
                    "the set.",
                ),
                io.Boolean.Input(
                    "allow_empty_captions",
                    default=False,
                    tooltip="Train pairs and images without a prompt on an empty one. Off: they are left out.",
                ),
                io.Combo.Input(
                    "read_as",
                    options=[PAIRS, OPINIONS],
                    default=PAIRS,
                    optional=True,
                    tooltip="What of a set collected here is trained on. pairs: which image won. opinions: the images "
                    "that you marked as bad, and those that won over them, each by itself, for the objectives "
                    "diffusion_kto and sft.",
                    extra_dict=FOLDED,
                ),
            ],
            outputs=[
                Pairs.Output("pairs", display_name="pairs", tooltip="The pairs, for DSPO Train LoRA."),
                io.String.Output("report", display_name="report", tooltip="Counts, sizes and every defect, as text."),
                io.Image.Output(
                    "sheet", display_name="sheet", tooltip="A contact sheet; the preferred images are marked."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, dataset: str, **_: object) -> str:
        return stamp(places.dataset(dataset))

    @classmethod
    def execute(cls, dataset: str, shown: int, allow_empty_captions: bool, read_as: str = PAIRS) -> io.NodeOutput:
        from ..dspo_train.models.tokenizers import prompt_remarks
        from ..dspo_train.pairs import format_report
        from ..dspo_train.sheets.contact_sheet import scan_sheet

        folder, opinions = places.dataset(dataset), read_as == OPINIONS
        found = pair_set(dataset, folder, opinions=opinions, allow_empty_captions=allow_empty_captions)
        scan = found.scan
        scan.usable()
        sheet = scan_sheet(scan, shown, title=dataset)
        image = to_tensor([sheet])
        remarks = prompt_remarks(scan.prompts)
        return io.NodeOutput(found, format_report(scan, remarks=remarks), image, ui=ui.PreviewImage(image, cls=cls))

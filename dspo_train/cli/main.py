"""Parse arguments, run a command, and report errors."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..config.naming import rendered
from ..exceptions import DspoError

OK, USER, INTERRUPTED = 0, 2, 130  # exit codes; 1 is Python's own, for a bug of ours

# Command -> module with `run(arguments) -> exit code`; imported when called, because torch and diffusers take seconds.
COMMANDS = {
    "demo": "demo",
    "inspect": "inspection",
    "train": "training",
    "settings": "settings",
    "sample": "images",
    "compare": "images",
    "taste": "taste",
    "score": "scoring",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and turn errors into one message each. -> exit code

    An error that the user can fix ends with code 2 and no traceback; anything else is our bug and shows one.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that cannot show a character must not stop a training
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    messages = Messages()
    messages.setFormatter(Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[messages])
    _quiet()
    try:
        module = importlib.import_module(f".{COMMANDS[arguments.command]}", __package__)
        return module.run(arguments)
    except DspoError as error:
        sys.stderr.write(f"\nerror: {in_words(str(error))}\n")
        return USER
    except KeyboardInterrupt:
        again = "; the same command resumes from the last checkpoint" if arguments.command == "train" else ""
        sys.stderr.write(f"\nstopped{again}\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output closed it, as `| head` does
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return OK


def in_words(message: str) -> str:
    """A message of the library, with settings as the command line spells them."""
    return rendered(message, {"prediction": "--prediction"})


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Messages(logging.Handler):
    """Messages on stderr, each on a line of its own above whatever progress bar there is."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class Plain(logging.Formatter):
    """The message alone, with settings under the names that `--set` takes."""

    def format(self, record: logging.LogRecord) -> str:
        return in_words(super().format(record))


def _quiet() -> None:
    """Silence the libraries' warnings that do not concern our users."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in ("transformers", "diffusers", "huggingface_hub", "accelerate", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dspo_train", description="Teach a Stable Diffusion model your taste from labelled pairs."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole loop on an embedded tiny model, in a few minutes")
    demo.add_argument("--out", type=Path, default=Path("dspo-demo"), metavar="DIR", help="default: %(default)s")

    inspect = commands.add_parser("inspect", help="report what a pair folder holds and what is wrong with it")
    inspect.add_argument("folder", type=Path, metavar="FOLDER")
    inspect.add_argument("--resolution", type=int, default=512, metavar="PIXELS", help="default: %(default)s")
    inspect.add_argument("--deep", action="store_true", help="decode every image (slow)")
    inspect.add_argument("--all", action="store_true", help="list every defect, not only the first 20")

    train = commands.add_parser("train", help="train a LoRA from a pair folder, or resume a stopped run")
    _base(train)
    train.add_argument("--pairs", type=Path, required=True, metavar="FOLDER", help="labelled pairs; see inspect")
    train.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="the run's folder; its name names the LoRA"
    )
    train.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; see docs/training.md")
    train.add_argument("--objective", metavar="NAME", help="default: dspo; the others: docs/training.md")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated")
    train.add_argument(
        "--refine", type=Path, metavar="FILE", help="a LoRA to continue from; a frozen copy is the reference"
    )
    _rounds(train)
    train.add_argument("--cache", type=Path, metavar="DIR", help="encodings; default: .dspo_cache in the pair folder")

    commands.add_parser("settings", help="list all settings of `train` with default, range and meaning")

    sample = commands.add_parser("sample", help="draw images, with or without a LoRA")
    _base(sample)
    _sampling(sample)
    sample.add_argument("--lora", type=Path, metavar="FILE")
    sample.add_argument("--strength", type=float, default=1.0, metavar="X", help="default: %(default)s")
    sample.add_argument("--count", type=int, default=1, metavar="N", help="images per prompt (default: %(default)s)")
    sample.add_argument("--out", type=Path, required=True, metavar="DIR")

    compare = commands.add_parser(
        "compare", help="one captioned sheet: prompts in rows, base and LoRA strengths in columns"
    )
    _base(compare)
    _sampling(compare)
    compare.add_argument("--lora", type=Path, required=True, metavar="FILE")
    compare.add_argument("--strengths", default="0.5,1", metavar="X,Y,...", help="default: %(default)s")
    compare.add_argument("--out", type=Path, required=True, metavar="PNG")

    _taste(commands.add_parser("taste", help="learn a taste from labelled images, and score or sort others by it"))

    score = commands.add_parser("score", help="print what a published scorer says of images; higher is better")
    score.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="files, or folders of them")
    score.add_argument("--scorer", required=True, metavar="NAME", help="`list` tells names, licences and downloads")
    score.add_argument("--weights", type=Path, metavar="PATH", help="file or folder; default: the Hugging Face cache")
    _prompts(score)
    score.add_argument("--csv", type=Path, metavar="FILE", help="write the scores to a table, too")
    return parser


def _taste(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    fit = actions.add_parser("fit", help="learn a taste from a pair folder, and say how well it is known")
    fit.add_argument("pairs", type=Path, metavar="PAIRS", help="labelled pairs, or liked and disliked; see inspect")
    _looking(fit)
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="of the taste: NAME.safetensors")
    fit.add_argument("--cache", type=Path, metavar="DIR", help="keeps features; default: the pair folder")
    fit.add_argument("--chart", type=Path, metavar="PNG", help="draw whether what is foretold comes true")
    fit.add_argument("--seed", type=int, default=0, help="of folds and resamples (default: %(default)s)")

    score = actions.add_parser("score", help="print the score of images; higher is better")
    score.add_argument("taste", type=Path, metavar="TASTE", help="a file that `taste fit` wrote")
    score.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files, or folders of them")
    _looking(score)
    _prompts(score)
    score.add_argument("--csv", type=Path, metavar="FILE", help="write the scores to a table, too")

    sort = actions.add_parser("sort", help="copy the images of a folder, the best first; nothing is deleted")
    sort.add_argument("taste", type=Path, metavar="TASTE", help="a file that `taste fit` wrote")
    sort.add_argument("folder", type=Path, metavar="FOLDER", help="of images; folders below it are not looked at")
    _looking(sort)
    _prompts(sort)
    sort.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    sort.add_argument("--best", type=int, metavar="K", help="copy the K best alone; scores.csv lists all")
    sort.add_argument("--link", action="store_true", help="hard links instead of copies, where the disk has them")


def _looking(parser: argparse.ArgumentParser) -> None:
    eyes = parser.add_mutually_exclusive_group(required=True)
    eyes.add_argument("--model", type=Path, metavar="PATH", help="diffusers folder or .safetensors file to look with")
    eyes.add_argument("--features", type=Path, metavar="DIR", help="a CLIP or SigLIP model to look with instead")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="vocab.json and merges.txt, if not CLIP's own")
    parser.add_argument("--prediction", choices=["epsilon", "v_prediction"], help="if the model misstates its own")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")


def _prompts(parser: argparse.ArgumentParser) -> None:
    told = parser.add_mutually_exclusive_group()
    told.add_argument("--prompt", metavar="TEXT", help="of all images; default: each one's caption file or metadata")
    told.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt per line, of each image in turn")


def _base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base", type=Path, required=True, metavar="PATH", help="diffusers folder or .safetensors file"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="vocab.json and merges.txt, if not CLIP's own")
    parser.add_argument("--prediction", choices=["epsilon", "v_prediction"], help="if the base misstates its own")


def _rounds(parser: argparse.ArgumentParser) -> None:
    rounds = parser.add_argument_group(
        "rounds", "after the first training the model draws, a model of the taste labels, and the training goes on"
    )
    rounds.add_argument("--rounds", type=int, default=1, metavar="N", help="trainings in all (default: %(default)s)")
    rounds.add_argument("--round-steps", type=int, metavar="N", help="of each further round; default: half")
    rounds.add_argument("--round-pairs", type=int, default=100, metavar="N", help="of a round (default: %(default)s)")
    rounds.add_argument("--draw-steps", type=int, default=20, metavar="N", help="default: %(default)s")
    rounds.add_argument("--draw-guidance", type=float, metavar="X", help="default: the model family's")
    rounds.add_argument("--draw-batch", type=int, default=4, metavar="N", help="images at once (default: %(default)s)")


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt per line", required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the first image (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="default: %(default)s")
    parser.add_argument("--guidance", type=float, metavar="X", help="default: the model family's")
    parser.add_argument("--negative", default="", metavar="TEXT", help="negative prompt")
    parser.add_argument("--width", type=int, metavar="PIXELS", help="default: the model's own size")
    parser.add_argument("--height", type=int, metavar="PIXELS")
    parser.add_argument("--image", type=Path, metavar="FILE", help="start from this image instead of from noise")
    parser.add_argument(
        "--image-strength",
        type=float,
        default=0.6,
        metavar="X",
        help="how far to go from --image: 0 leaves it, 1 ignores it (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="default: %(default)s")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")

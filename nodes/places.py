"""Where files are in ComfyUI, and the only ways to name them."""

from __future__ import annotations

import errno
from pathlib import Path

import folder_paths

from ..dspo_train.exceptions import ConfigError, DatasetError, LoraFileError
from ..dspo_train.files.names import file_name, inside, parts_of
from ..dspo_train.pairs.discover import find_sets
from ..dspo_train.preferences import LOG_NAME
from ..dspo_train.runs.names import undelivered

PACK = Path(__file__).resolve().parent.parent
REQUIREMENTS = PACK / "requirements.txt"
EXAMPLES = PACK / "example_pairs"
DATASETS_KEY = "dspo_datasets"  # in extra_model_paths.yaml
LORA_FOLDER = "dspo"  # below output/loras, which ComfyUI lists
NO_DATASETS = "no pair folders in ComfyUI's input folder"
NO_LORA = "none"
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


def dataset_roots() -> list[Path]:
    """ComfyUI's input folder, the folders of extra_model_paths.yaml, and the pack's example."""
    named = folder_paths.get_folder_paths(DATASETS_KEY) if DATASETS_KEY in folder_paths.folder_names_and_paths else []
    return [Path(folder_paths.get_input_directory()), *map(Path, named), EXAMPLES]


def datasets() -> list[str]:
    """Names for the combo; a name in two roots means the first root's."""
    names = [name for root in dataset_roots() for name in find_sets(root)]
    return list(dict.fromkeys(names)) or [NO_DATASETS]


def dataset(name: str) -> Path:
    """The folder of a set.

    Raises:
        DatasetError: there is none of that name, or the folder cannot be reached.
        ConfigError: the name leads outside the roots.
    """
    parts_of(name, "the set's name")
    if (folder := _collected(name)) is not None:
        return folder
    for root in dataset_roots():
        if name in find_sets(root):  # as in the combo: a folder without pairs hides no set
            return inside(root, name, "the set's name")
    for root in dataset_roots():
        if is_there(folder := inside(root, name, "the set's name")) and folder.is_dir():
            return folder
    raise DatasetError(f"there is no preference set {name!a}; put its folder into ComfyUI's input folder and refresh")


def _collected(name: str) -> Path | None:
    """A collected set, found without listing all others: every vote looks one up."""
    for root in dataset_roots():
        try:
            folder = inside(root, name)
        except ConfigError:  # a link, which is not followed
            return None
        if is_there(folder / LOG_NAME):
            return folder
        if is_there(folder):  # pairs of this name take precedence over a later root's set
            return None
    return None


def is_there(path: Path) -> bool:
    """
    Raises:
        DatasetError: it cannot be determined, as on a network drive that does not answer.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise DatasetError(f"{path}: cannot be reached ({error.strerror or error}); try again later") from error
    return True


def runs() -> Path:
    return Path(folder_paths.get_output_directory()) / "dspo" / "runs"


def encodings() -> Path:
    """One cache for all sets: it is keyed by content."""
    return Path(folder_paths.get_output_directory()) / "dspo" / "encodings"


def lora_folder() -> Path:
    """Where our LoRAs go; ComfyUI lists it."""
    return Path(folder_paths.get_output_directory()) / "loras" / LORA_FOLDER


def new_lora(stem: str) -> tuple[str, Path]:
    """The name by which ComfyUI will list a LoRA, and its file."""
    return f"{LORA_FOLDER}/{stem}.safetensors", lora_folder() / f"{stem}.safetensors"


def loras() -> list[str]:
    return folder_paths.get_filename_list("loras")


def lora(name: str) -> Path:
    """The file of a LoRA that ComfyUI lists, with either path separator in its name.

    Raises:
        LoraFileError: ComfyUI lists no such file.
        ConfigError: the name leads outside the LoRA folders.
    """
    wanted = parts_of(name, "the LoRA's name")
    listed = {tuple(known.replace("\\", "/").split("/")): known for known in loras()}
    if wanted not in listed:
        raise LoraFileError(f"ComfyUI lists no LoRA {name!a}; choose one from its LoRA list, or wire the LoRA in")
    return Path(folder_paths.get_full_path_or_raise("loras", listed[wanted]))


def stamp(path: Path) -> tuple[int, int]:
    """Changes when the file is written to: its size, and the time in nanoseconds."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def train_stamp(name: str | None, refine_lora: str | None) -> str:
    """Covers the files that a training reads by name and its missing results; a wired value is None."""
    read = [lora(refine_lora)] if refine_lora and refine_lora != NO_LORA else []
    stamps = [(path.name, *stamp(path)) for path in read]
    missing = undelivered(runs(), file_name(name, "the LoRA's name"), lora_folder()) if name else []
    return f"{stamps} {missing}"


def tastes_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / "dspo" / "tastes"


def tastes() -> list[str]:
    """Names of the saved tastes."""
    found = (path.stem for path in tastes_folder().glob("*.safetensors") if not path.name.startswith("."))
    return sorted(found, key=str.casefold)


def taste(name: str) -> Path:
    """The file of a taste, there or not.

    Raises:
        ConfigError: the name is no plain name.
    """
    what = "the taste's name"
    return inside(tastes_folder(), f"{file_name(name, what)}.safetensors", what)


def features() -> Path:
    """One cache for all sets, as of the encodings."""
    return Path(folder_paths.get_output_directory()) / "dspo" / "features"


def blind_tests() -> Path:
    return Path(folder_paths.get_output_directory()) / "dspo" / "blind"


def exports() -> Path:
    return Path(folder_paths.get_output_directory()) / "dspo" / "exports"


def prompt_files() -> list[str]:
    """Names of the .txt files directly in ComfyUI's input folder."""
    folder = Path(folder_paths.get_input_directory())
    found = [path.name for path in folder.glob("*.txt") if path.is_file()] if folder.is_dir() else []
    return sorted(found, key=str.casefold)


def prompt_file(name: str) -> Path:
    return inside(Path(folder_paths.get_input_directory()), name, "the prompt file's name")

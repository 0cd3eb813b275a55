"""Where the files of a model lie, and how many parameters they hold; no weight is loaded."""

import importlib.util
import json
import math
from functools import cache
from pathlib import Path

from huggingface_hub import get_safetensors_metadata, snapshot_download
from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError
from safetensors import SafetensorError, safe_open

from commons.errors import SftrlError

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, ImportError)


def folder_of(source: str, download: bool = True) -> Path | None:
    """The folder of a model's files: `source` itself, or the local copy of a Hub id."""
    if source and Path(source).is_dir():
        return Path(source)
    files = ["*.json", "model*.safetensors"]
    try:
        copy = snapshot_download(source, allow_patterns=files, local_files_only=not download)
        return Path(copy)
    except (OSError, ValueError):
        return None


def gguf_file(name: str) -> Path:
    """A GGUF file: a path, or PACKAGE/FILE of an installed package, which is not imported."""
    path = Path(name)
    if path.exists():
        return path
    package, _, file = name.partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SftrlError(
            f"there is no file {name}, and no package {package} is installed; "
            "run `pip install -r requirements-smol.txt`, or give the path of a GGUF file."
        )
    return Path(found.submodule_search_locations[0]) / file


def whole(source: str) -> str:
    """`source`, or the base of the adapter that lies there."""
    config = Path(source) / "adapter_config.json"
    return json.loads(config.read_text())["base_model_name_or_path"] if config.exists() else source


def parameters(source: str) -> int:
    """How many parameters a model has, by the headers of its files; of an adapter those of its
    base. 0 where nothing on this machine says so."""
    try:
        return _parameters(whole(source))
    except (*_UNREADABLE, NotASafetensorsRepoError, SafetensorsParsingError, SafetensorError):
        return 0


@cache
def _parameters(source: str) -> int:
    if source.endswith(".gguf"):
        from gguf import GGUFReader  # an optional install

        return sum(int(tensor.n_elements) for tensor in GGUFReader(gguf_file(source)).tensors)
    folder = folder_of(source, download=False)
    files = list(folder.glob("model*.safetensors")) if folder else []
    if not files:  # on the Hub, where it may be asked
        return sum(get_safetensors_metadata(source).parameter_count.values())
    shapes = []
    for file in files:
        with safe_open(file, "numpy") as weights:
            shapes += [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    return sum(map(math.prod, shapes))

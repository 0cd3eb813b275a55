"""What a run's speed and last digits depend on: "same seed, same result" is a promise for one
machine and thread count."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

try:  # POSIX only: the peak of memory
    import resource
except ImportError:  # pragma: no cover
    resource = None  # type: ignore[assignment]  # a module, where there is one

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "numpy")


def facts() -> dict[str, Any]:
    """Device, cores, threads, load and versions of this machine."""
    import torch  # here, so that figures and claims start quickly

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "python": platform.python_version(),
        "versions": {p: metadata.version(p) for p in PACKAGES},
    }


def peak_memory_mb() -> int:
    """Of the whole process, so far; 0 where the system does not say. macOS counts bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 0
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def revision(repository: Path) -> str | None:
    """The commit of the code, and whether it was changed since; None where git does not say."""
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.SubprocessError):
        return None

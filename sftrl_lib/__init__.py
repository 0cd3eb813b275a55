"""SFT memorises, RL generalises? A thin library under an interactive experiment book."""

import logging
import os
import sys

from . import places as _places  # noqa: F401  (where libraries keep caches, before they look)
from . import threads as _threads  # noqa: F401  (how threads wait, before torch loads)

# Nothing leaves the machine unless SFTRL_ONLINE=1: no telemetry, no look-ups on a hub.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
for _name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ.setdefault(_name, "1")
if os.environ.get("SFTRL_ONLINE", "0") != "1":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if _hub := sys.modules.get("huggingface_hub.constants"):  # imported first, it has read that
        vars(_hub)["HF_HUB_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] == "1"
# bitsandbytes recommends a package that would fetch compiled code; its own CPU kernels do.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

from worlds.verifier import verify_formula  # noqa: E402

from .errors import SftrlError  # noqa: E402
from .experiment import Experiment  # noqa: E402
from .models.presets import PRESETS  # noqa: E402
from .tasks import envs as _envs  # noqa: E402, F401  (registers sftrl/GeneralPoints-v0)
from .tasks.base import Verdict  # noqa: E402
from .tasks.general_points import GeneralPoints  # noqa: E402

__all__ = ["PRESETS", "Experiment", "GeneralPoints", "SftrlError", "Verdict", "verify_formula"]

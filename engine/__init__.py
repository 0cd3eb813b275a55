"""How a language model is loaded, asked, trained and fitted into memory, whatever the task.

which   settings, presets, sources, load, adapters, families; policy: how it is spoken to
asked   generation, graphs, images; divergence: how far it has moved
trained trainer, checkpoints, packing, compute
where   memory, allocator, threads, machine

It knows no task, experiment or run: what it needs of them is handed in as plain values.
"""

import logging
import os
import sys

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

"""Work that the processes of one run share: each does a part, and all know what came of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes

from commons.processes import RANK, WORLD

PATIENCE = timedelta(hours=10)  # how long one process waits for another


def share(count: int) -> range:
    """Which of `count` things this process does: neighbours; all of them where it is alone."""
    return range(count * RANK // WORLD, count * (RANK + 1) // WORLD)


def gathered(found: Sequence[Any], device: torch.device) -> list[Any]:
    """What all processes have `found`, one after the other: of each a list of what JSON can hold.
    It is sent as JSON, since accelerate's own `gather_object` would unpickle it. All must call this
    equally often."""
    if WORLD == 1:
        return list(found)
    PartialState(cpu=device.type == "cpu", timeout=PATIENCE)  # before a trainer has met the others
    text = torch.tensor([*json.dumps(found).encode()], dtype=torch.uint8, device=device)
    texts = gather(pad_across_processes(text, pad_index=ord(" "))).cpu().view(WORLD, -1)
    return [one for text in texts for one in json.loads(bytes(text.tolist()))]

"""Is this machine ready for a lab? Plain words, within a minute, and nothing is set up or changed.

Runs with any Python, installed or not: what it needs beyond the standard library it tries last, in
a process that is ended if it takes too long.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON, CORES, MEMORY, DISK = (3, 11), 2, 4, 3  # GB
PATIENCE = 45  # seconds for the model to answer
ANSWER = """
import time
import sftrl_lib
import torch
from sftrl_lib.experiment import Experiment
from sftrl_lib.policies import load_policy
policy = load_policy(Experiment(method="init"))
ids = torch.tensor([policy.first_turn("What is 3 times 8?")])
began = time.monotonic()
with torch.no_grad():
    assert policy.model(input_ids=ids).logits.isfinite().all()
print(f"{1000 * (time.monotonic() - began):.0f} ms")
"""


def memory() -> float:
    """GB of this machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return 0.0


def packages() -> list[str]:
    """The pinned packages that are missing or have another version."""
    pinned = re.findall(
        r"^([\w.\-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    there = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in metadata.distributions()}
    wrong = []
    for name, version in pinned:
        found = there.get(re.sub(r"[-_.]+", "-", name).lower())
        if found is None or found.split("+")[0] != version:
            wrong.append(f"{name} {found or 'missing'} (wanted {version})")
    return wrong


def forward_pass() -> tuple[bool, str]:
    """Whether the tiny model answers here, and how fast or why not."""
    command = [sys.executable, "-c", ANSWER]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=environment, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return False, f"gave no answer in {PATIENCE} seconds; close other programs and try again"
    if done.returncode:
        return False, f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return True, f"answers a question in {done.stdout.strip()}"


def checks():
    """(what, whether it is well, what to know or to do) one after the other."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield "Python", sys.version_info >= PYTHON, f"{version}; 3.11 or newer is needed"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", cores >= CORES, f"{cores}; with fewer than {CORES} live runs take twice as long"
    size = memory()
    known = f"{size:.1f} GB" if size else "this system does not say how much"
    yield "memory", size == 0 or size >= MEMORY, f"{known}; {MEMORY} GB are needed"
    free = shutil.disk_usage(ROOT).free / 2**30
    yield "disk", free >= DISK, f"{free:.1f} GB free; {DISK} GB are needed"
    writable = os.access(ROOT, os.W_OK)
    yield "folder", writable, "may be written to" if writable else "set SFTRL_HOME to another one"
    wrong = packages()
    few = "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    yield "packages", not wrong, f"{few}: run `make lab`, which installs them" if wrong else "all"
    if wrong:
        yield "model", False, "not tried: it needs the packages"
    else:
        yield "model", *forward_pass()


def main() -> int:
    """Print the list; 0 if the machine is ready."""
    ready = True
    for what, well, words in checks():
        ready &= bool(well)
        print(f"{'ok   ' if well else 'NO   '} {what:9} {words}", flush=True)
    print("This machine is ready." if ready else "Not ready: see the lines that begin with NO.")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())

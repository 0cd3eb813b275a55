"""How long a short run takes beside another busy program, with threads that spin while they wait,
as torch's OpenMP library has them by default, and with threads that sleep (engine/threads.py).

Run `python benchmarks/busy.py` on a machine that does nothing else (five minutes a round on two
cores, most of them spent in the spinning run); it writes data/benchmarks/busy.json. The busy
program is an endless loop in a session of its own: to a desktop's scheduler every other program is
one.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from tqdm.auto import tqdm

OUT = Path(__file__).parents[1] / "data" / "benchmarks" / "busy.json"
COMMAND = "sft --steps 1 --batch 8 --eval_episodes 2 --final_episodes 2".split()
LOOP = [sys.executable, "-c", "while True: pass"]
LIMIT = 150  # seconds, after which a run is stopped and counts as longer
WAYS = {  # how a thread waits, and how many there are
    "spinning, 2 threads": ("ACTIVE", 2),
    "sleeping, 2 threads": ("PASSIVE", 2),
    "1 thread": ("PASSIVE", 1),
}
BUSY = (0, 1)  # other programs


def seconds(policy: str, threads: int) -> float | None:
    """Wall time of the command in a fresh folder; None where it takes more than LIMIT."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment["OMP_WAIT_POLICY"] = policy
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sftrl_lib", *COMMAND, "--root", folder]
        start = time.perf_counter()
        try:
            subprocess.run(
                [*command, "--threads", str(threads)], env=environment, cwd=OUT.parents[2],
                capture_output=True, check=True, timeout=LIMIT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="the median of as many counts [3]")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    load = os.getloadavg()[0]  # of others: it must be near 0
    rows, bar = [], tqdm(total=len(BUSY) * len(WAYS) * args.rounds, desc="busy", unit="run")
    for busy in BUSY:
        others = [subprocess.Popen(LOOP, start_new_session=True) for _ in range(busy)]
        try:
            for way, (policy, threads) in WAYS.items():
                times = []
                for _ in range(args.rounds):
                    times.append(seconds(policy, threads))
                    bar.update()
                median = statistics.median(LIMIT if t is None else t for t in times)
                told = f">{LIMIT}" if median >= LIMIT else round(median, 1)
                rows.append({"busy_programs": busy, "way": way, "threads": threads,
                             "OMP_WAIT_POLICY": policy, "median_s": told,
                             "seconds": [t and round(t, 1) for t in times]})  # fmt: skip
        finally:
            for other in others:
                other.kill()
                other.wait()
    bar.close()
    facts = {
        "command": " ".join(["python -m sftrl_lib", *COMMAND]), "rounds": args.rounds,
        "limit_s": LIMIT, "platform": platform.platform(), "cores": os.cpu_count(),
        "machine": platform.machine(), "load_before": load, "python": platform.python_version(),
        "versions": {p: metadata.version(p) for p in ("torch", "transformers", "trl")},
        "rows": rows,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(facts, indent=1) + "\n")
    for row in rows:
        print(f"{row['busy_programs']} busy  {row['way']:20}  {row['median_s']:>6} s")


if __name__ == "__main__":
    main()

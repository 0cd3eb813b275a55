"""Which of several processes this one is, and what becomes of it when its parent ends."""

import multiprocessing
import os
import threading

# Of the processes that `accelerate launch` starts for one run; the first alone writes.
RANK, LOCAL_RANK = (int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK"))
WORLD = int(os.environ.get("WORLD_SIZE", 1))


def end_with_parent() -> None:
    """Let a worker die with the command that started it, however that ends (kill -9 included); its
    run goes on from its last checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""How the C library keeps freed memory while a large model is trained on a CPU."""

import contextlib
import ctypes
import os
import sys

SMALL, LARGE = 2**20, 2**25  # bytes: of freed blocks that are kept
_NAME = "MALLOC_MMAP_THRESHOLD_"  # the GNU C library's own; processes that we start inherit it


def keep_freed_blocks(largest: int) -> None:
    """Have the GNU C library keep freed blocks of less than `largest` bytes for later, and give
    larger ones back at once. By itself it comes to keep those of up to 32 MB, with holes that the
    next block does not fit: in training a large model more than all that is in use."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: given back, taken faster
        libc.malloc_trim(0)
        libc.mallopt(-3, largest)  # M_MMAP_THRESHOLD
        os.environ[_NAME] = str(largest)


@contextlib.contextmanager
def caches_kept():
    """While answers are written the caches grow by a token at a time, in blocks of some MB: to take
    them anew each time would take as long as the model does."""
    if os.environ.get(_NAME) != str(SMALL):
        yield
        return
    keep_freed_blocks(LARGE)
    try:
        yield
    finally:
        keep_freed_blocks(SMALL)

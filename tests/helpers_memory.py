"""Counts the bytes of tensors that are there at once: what a GPU's allocator would give out, on any
device."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _storages(of: Any) -> dict[int, torch.UntypedStorage]:
    found = (t.untyped_storage() for t in tree_leaves(of) if isinstance(t, torch.Tensor))
    return {storage._cdata: storage for storage in found}


class Held(TorchDispatchMode):
    """Within it, `now` and `peak` are the bytes of the tensors that were made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = _storages((args, kwargs))
        for key, storage in _storages(out).items():
            if key not in self.known | given.keys():  # what is changed in place, or seen otherwise
                self.known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size

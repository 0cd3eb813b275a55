"""What stands in for a CUDA graph on a CPU: as blind, and as strict."""

import contextlib
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
# What would wait for a GPU, or bring numbers from the host that a replay would never see change.
WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default,
    aten._unique2.default, aten.equal.default, aten.is_nonzero.default, aten.lift_fresh.default,
}  # fmt: skip


def waits(func, args) -> bool:
    """Whether an operation would make a GPU wait: one of these, or places that are found first."""
    indices = args[1] if func in (aten.index.Tensor, aten.index_put_.default) else ()
    masks = (torch.bool, torch.uint8)
    return func in WAITS or any(i is not None and i.dtype in masks for i in indices)


class Held:
    """A tensor of a recording's own, or of others, who may let it go."""

    def __init__(self, tensor, own) -> None:
        self.tensor, self.seen = tensor if own else None, weakref.ref(tensor)

    def there(self):
        """The tensor."""
        assert self.seen() is not None, "a replay would read where a tensor has been"
        return self.seen()


class Tape(TorchDispatchMode):
    """Every operation with the tensors that it was given, and where its results lie. A replay runs
    no Python of the model: it repeats them into the same places. Of tensors that were there before
    it knows the address alone: it fails if one is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple] = []
        self.made: dict[int, torch.Tensor] = {}
        self.replays = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if waits(func, args):
            raise RuntimeError(f"{func} is not permitted when a stream is capturing")
        kwargs = kwargs or {}
        known = {t.untyped_storage().data_ptr() for t in self._tensors((args, kwargs))}
        result = func(*args, **kwargs)
        made = self._tensors(result)
        fresh = [t.untyped_storage().data_ptr() not in known for t in made]
        self.operations.append((func, *tree_map_only(torch.Tensor, self._held, (args, kwargs)),
                                list(zip(made, fresh, strict=True))))  # fmt: skip
        self.made |= {id(t): t for t in made}
        return result

    @staticmethod
    def _tensors(tree) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    def _held(self, tensor):
        return Held(tensor, id(tensor) in self.made)

    @contextlib.contextmanager
    def warming(self, strict):
        """As a GPU does with `strict`, nothing may wait."""
        with Tape() if strict else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def recording(self):
        """Afterwards nothing that was computed is there: a recording runs nothing."""
        with self:
            yield
        for *_, made in self.operations:
            for tensor, fresh in made:
                if fresh:
                    tensor.fill_(77 if not tensor.is_floating_point() else torch.nan)

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for func, args, kwargs, made in self.operations:
            (args, kwargs) = tree_map_only(Held, Held.there, (args, kwargs))
            result = self._tensors(func(*args, **kwargs))
            for (place, fresh), new in zip(made, result, strict=True):
                if fresh:
                    place.copy_(new)


class Watched(TorchDispatchMode):
    """Fails if an operation would wait for the numbers of `device`, or takes tensors of another."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.operations = device, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        assert not waits(func, args), func
        assert {t.device.type for t in tensors} <= {self.device}, func
        return result

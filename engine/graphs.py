"""A decode step without Python: recorded once as a CUDA graph, then replayed.

A replay repeats the kernels of the call that was recorded, on the addresses of that call. So shapes
are fixed, what changes comes in through buffers of the recording's own, and nothing in between may
wait for the GPU or copy from the host. One recording is alive at a time: rows that leave, or a
longer cache, make it anew, and its memory is free again.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch

WARM_UP = 3  # steps that run on a side stream first, as PyTorch's documentation of graphs has it
# Recording takes the Python of a step, and as long again until the GPU has the graph. So it is done
# if so many steps may follow the warm-up, whatever the model: its size scales both sides.
PAYS = 8
REACH = 256  # tokens for which a step is recorded: it looks at their places, also at empty ones


class CudaRecorder:
    """How a GPU warms up, records and replays."""

    def __init__(self) -> None:
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    @contextlib.contextmanager
    def warming(self, strict: bool) -> Iterator[None]:
        """`strict`: what waits for the GPU is an error, here and not in a recording, which would
        leave generators and allocator in its mode."""
        before, current = torch.cuda.get_sync_debug_mode(), torch.cuda.current_stream()
        self.stream.wait_stream(current)
        torch.cuda.set_sync_debug_mode("error" if strict else before)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
            current.wait_stream(self.stream)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """What is called inside is recorded, and not run."""
        # Threads of others, such as NCCL's watchdog, may ask the GPU something meanwhile.
        graph = torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local")
        with torch.cuda.stream(torch.cuda.current_stream()), graph:  # it is current again if not
            yield

    def replay(self) -> None:
        """Run it."""
        self.graph.replay()


RECORDERS: dict[str, Callable] = {"cuda": CudaRecorder}  # by type of device; elsewhere none


class Replayed:
    """`function` of tensors of always the same shapes. What it returns, the next call overwrites.

    Where it cannot be recorded, a warning says why, and it and later ones are called as they are.
    """

    def __init__(self, function: Callable[..., torch.Tensor], device: str) -> None:
        self.function, self.device, self.calls = function, device, 0
        self.recorder = RECORDERS[device]()
        self.given: list[torch.Tensor] = []

    def __call__(self, *given: torch.Tensor) -> torch.Tensor:
        self.given = self.given or [tensor.clone() for tensor in given]
        for own, new in zip(self.given, given, strict=True):
            own.copy_(new)
        self.calls += 1
        try:
            if self.recorder and self.calls <= WARM_UP:
                with self.recorder.warming(strict=self.calls == WARM_UP):
                    return self.function(*self.given)
            if self.recorder and self.calls == WARM_UP + 1:
                with self.recorder.recording():
                    self.found = self.function(*self.given)
        except RuntimeError as error:
            self.recorder = None
            RECORDERS.pop(self.device, None)
            why = " ".join(str(error).split())[:200]
            warnings.warn(f"decode steps are not replayed, which is slower: {why}", stacklevel=2)
        if not self.recorder:
            return self.function(*self.given)
        self.recorder.replay()
        return self.found

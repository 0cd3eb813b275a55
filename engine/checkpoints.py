"""Checkpoints of a training run: whole or absent, sealed, refused where anything was changed."""

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_model, save_model
from transformers import Trainer
from transformers.trainer_callback import TrainerState

from commons.errors import SftrlError
from commons.processes import RANK

from .compute import Compute

LEDGER, WEIGHTS, SEAL = "compute.json", "weights.safetensors", "seal.json"


def _digests(checkpoint: Path) -> dict[str, str]:
    """{file: digest} of everything in a checkpoint but its seal."""
    found = {}
    for path in sorted(checkpoint.rglob("*")):
        if not path.is_dir() and path.name != SEAL:
            with path.open("rb") as file:
                found[str(path.relative_to(checkpoint))] = hashlib.file_digest(file, "sha256")
    return {name: digest.hexdigest() for name, digest in found.items()}


def seal(checkpoint: Path, run_hash: str) -> None:
    """Write down whose checkpoint this is, of which step, and what is in it."""
    facts = {"run": run_hash, "name": checkpoint.name, "files": _digests(checkpoint)}
    (checkpoint / SEAL).write_text(json.dumps(facts))


def check_seal(checkpoint: Path, run_hash: str) -> None:
    """ValueError unless a checkpoint is this run's and nothing in it has been changed, cut, added
    or exchanged. For transformers itself goes on without the optimizer's or the random streams'
    state where their files are gone."""
    if any(path.is_symlink() or path.is_fifo() for path in checkpoint.rglob("*")):
        raise ValueError("it holds what is not a file")
    facts = json.loads((checkpoint / SEAL).read_text())
    if (facts["run"], facts["name"]) != (run_hash, checkpoint.name):
        raise ValueError(f"it is {facts['name']} of the run {facts['run']}")
    if wrong := sorted(name for name, _ in _digests(checkpoint).items() ^ facts["files"].items()):
        raise ValueError(f"{wrong[0]} is not as it was written")


@contextlib.contextmanager
def _reading(checkpoint: str | None):
    """SftrlError for whatever goes wrong while a checkpoint is read. transformers and PEFT load
    tensors only (`weights_only`, safetensors): nothing in it is executed."""
    try:
        yield
    except Exception as error:
        raise SftrlError(
            f"the checkpoint {checkpoint} cannot be read ({' '.join(str(error).split())[:200]}), "
            "and nothing replaces it; delete that folder, and the run begins again."
        ) from error


class Sealed:
    """A Trainer's checkpoints, each sealed with the `run_hash` of its run."""

    ledger: Compute
    run_hash: str

    def _save(self, output_dir=None, state_dict=None) -> None:
        """Weights only, under the names they have in memory. transformers writes a Mllama under the
        Hub's names, finds none of its own when it resumes, and quietly begins from the init."""
        if hasattr(self.model, "peft_config"):
            self.model.save_pretrained(output_dir)
        else:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(Path(output_dir) / WEIGHTS))

    def _load_from_checkpoint(self, checkpoint, model=None) -> None:
        with _reading(checkpoint):
            check_seal(Path(checkpoint), self.run_hash)
            self.ledger = Compute(**json.loads((Path(checkpoint) / LEDGER).read_text()))
            TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
            if hasattr(self.model, "peft_config"):
                super()._load_from_checkpoint(checkpoint, model)
            else:
                load_model(self.model, Path(checkpoint) / WEIGHTS, strict=True)

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        with _reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint) -> None:
        with _reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model, trial) -> None:
        """Writes beside, then renames: a killed run never leaves half a checkpoint as its last."""
        if RANK:
            return
        home = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        partial = home / ".saving"
        shutil.rmtree(partial, ignore_errors=True)
        self.args.output_dir = str(partial)
        try:
            Trainer._save_checkpoint(self, model, trial)  # TRL's would also write a model card
        finally:
            self.args.output_dir = str(home)
        (partial / name / LEDGER).write_text(json.dumps(asdict(self.ledger)))
        seal(partial / name, self.run_hash)
        shutil.rmtree(home / name, ignore_errors=True)
        os.replace(partial / name, home / name)
        for old in home.glob("checkpoint-*"):
            if old.name != name:
                shutil.rmtree(old)
        shutil.rmtree(partial)

"""SFT memorises, RL generalises? A thin library under an interactive experiment book."""

from . import places as _places  # noqa: F401, I001  (where libraries keep caches, before they look)
from engine.presets import PRESETS
from commons.errors import SftrlError
from worlds.verifier import verify_formula

from .experiment import Experiment
from .tasks import envs as _envs  # noqa: F401  (registers sftrl/GeneralPoints-v0)
from .tasks.base import Verdict
from .tasks.general_points import GeneralPoints

__all__ = ["PRESETS", "Experiment", "GeneralPoints", "SftrlError", "Verdict", "verify_formula"]

"""Loaded before every test module."""

from hypothesis import settings

import sftrl_lib  # noqa: F401  (before torch, so that threads which wait do not spin)

settings.register_profile("busy", deadline=None)  # how long a test takes, other programs decide
settings.load_profile("busy")

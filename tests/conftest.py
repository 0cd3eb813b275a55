"""Loaded before every test module."""

import sftrl_lib  # noqa: F401  (before torch, so that threads which wait do not spin)

"""Policies: how they are loaded and saved, the presets, and the families that see images."""

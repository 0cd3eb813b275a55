"""Families of models with images, one file each: what is special to how they see."""

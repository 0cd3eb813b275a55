"""Families of models with images, one file each: what is special to how they see."""

from commons.registry import Registry

register_model_family = FAMILIES = Registry("family of image models", __name__)

UNSEEN = {  # why those that are asked for are none
    "gemma3": ", whose image tokens see one another in both directions, behind sliding windows",
}

"""Worked examples of what one file can add, found as a package of yours would be."""

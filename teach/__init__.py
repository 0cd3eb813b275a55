"""Exercises that answer, and what an instructor needs: see teach/README.md.

`check("02.1", my_function)` holds a reader's function against hidden cases.
"""

from .exercise import check

__all__ = ["check"]

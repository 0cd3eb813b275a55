"""The tasks: what is dealt, what is asked, and who decides."""

"""The book's own study: its recorded grids, ablations, claims, figures and pages. It imports
`sftrl_lib`, never the other way."""

import engine as _engine  # noqa: F401  (threads and silence, before torch and transformers load)

"""The book's own study: its recorded grids, ablations, claims, figures and pages. It imports
`sftrl_lib`, never the other way."""

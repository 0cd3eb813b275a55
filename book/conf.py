"""The HTML book: executed notebooks in, pages that ask no other host out.

`study.book` copies this folder and the executed notebooks to build/book and calls Sphinx there.
"""

from docutils.utils.math.latex2mathml import tex2mathml

from study.pages import Picture

project = "SFT memorizes, RL generalizes: an experiment book"
author = "the authors of this book"
copyright = "the authors, Apache-2.0"  # noqa: A001 (Sphinx's name)
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated"]  # included by pages

nb_execution_mode = "off"  # they were executed by study.book, with the parameters of the tier
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
nb_ipywidgets_js = {}  # widgets need a kernel; the page has the plain figure that follows each
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 2

html_theme = "sphinx_book_theme"
html_title = "SFT memorizes, RL generalizes"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search box of the sidebar is enough
}


def _inline_math(self, node):
    self.body.append(tex2mathml(node.astext()))
    from docutils.nodes import SkipNode

    raise SkipNode


def _block_math(self, node):
    formula = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="math" tabindex="0">{formula}</div>')  # a key scrolls a wide one
    from docutils.nodes import SkipNode

    raise SkipNode


def setup(app):
    """Figures by name; formulas as MathML, which browsers draw themselves: no MathJax to fetch."""
    app.add_directive("picture", Picture)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))


html_math_renderer = "mathml"

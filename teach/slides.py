"""The lecture as one HTML file that needs neither a network nor a script: teach/slides.md, its
figures inside. (The Markdown is Marp's too.)"""

import base64
import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from commons.errors import SftrlError
from sftrl_lib.places import ROOT, writable

SOURCE = ROOT / "teach" / "slides.md"
STYLE = """
html { scroll-snap-type: y mandatory; font: 2.6vmin/1.4 system-ui, sans-serif; color: #1a1a1a }
section { box-sizing: border-box; min-height: 100vh; padding: 6vh 8vw; scroll-snap-align: start;
  border-bottom: 1px solid #ccc; background: #fff }
h1 { font-size: 1.9em; line-height: 1.2 } h2 { font-size: 1.5em; line-height: 1.2 }
img { display: block; max-width: 100%; max-height: 62vh; margin: 1em auto }
code { background: #f0f0f0; padding: 0 0.2em } aside { color: #555; font-size: 0.75em }
@media print { section { break-after: page; border: 0 } }
"""


def slides(text: str) -> list[str]:
    """The Markdown of each slide; Marp's header is left out."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return [part.strip() for part in re.split(r"^---$", body, flags=re.MULTILINE)]


def _embedded(match: re.Match) -> str:
    """A figure as part of the page, with the text that stands beside it for those who cannot see
    it."""
    path = (SOURCE.parent / match["path"]).resolve()
    if not path.is_file():
        raise SftrlError(f"{path} is missing; `make book` draws the figures, then try again.")
    words = path.with_name(f"{path.stem}.alt.txt")
    alt = words.read_text(encoding="utf-8").strip() if words.exists() else match["alt"]
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def page(text: str) -> str:
    """The whole deck."""
    render = MarkdownIt("commonmark").enable("table").render
    parts = []
    for slide in slides(text):
        figure = r'<img src="(?P<path>[^"]+)" alt="(?P<alt>[^"]*)"[^>]*>'
        notes = re.sub(r"<!--(.*?)-->", "", slide, flags=re.DOTALL)  # for the speaker alone
        parts.append(f"<section>{re.sub(figure, _embedded, render(notes))}</section>")
    title = slides(text)[0].splitlines()[0].lstrip("# ")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{head}{view}<style>{STYLE}</style><main>{''.join(parts)}</main></html>\n"


def write(path: Path) -> None:
    """The deck as one file."""
    writable(path.parent)
    path.write_text(page(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"The lecture is ready: open {path} (space bar or page-down for the next slide)")

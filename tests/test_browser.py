"""The HTML book in a real browser, on a desk and on a phone, in the light and in the dark."""

import io
import os
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from sftrl_lib.places import ROOT
from study import book, playground

WIDTHS = {"desk": 1280, "phone": 390}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[Path]:
    """The pages of the book, with the outputs of the notebooks where `make book` has run them."""
    first = book.build_html(html=tmp_path_factory.mktemp("book") / "html")
    return [p for p in sorted(first.parent.rglob("*.html")) if "_static" not in p.parts]


def test_no_two_parts_of_a_page_that_is_asked_have_one_name(pages):
    """Sphinx calls the part below the heading "Cards" cards; a form of that name is not found."""
    for page in (p for p in pages if p.stem in ("playground", "explorer")):
        names = re.findall(r'<(?:section|form|div|p)[^>]* id="([^"]+)"', page.read_text())
        assert names and len(set(names)) == len(names), page


def test_no_internal_link_is_broken(pages):
    places, broken = {}, []
    for page in pages:
        soup = BeautifulSoup(page.read_text(), "html.parser")
        places[page] = {tag["id"] for tag in soup.find_all(id=True)} | {""}
    for page in pages:
        soup = BeautifulSoup(page.read_text(), "html.parser")
        for tag in soup.find_all(href=True) + soup.find_all(src=True):
            address, fragment = urldefrag(tag.get("href") or tag.get("src"))
            if urlsplit(address).scheme:
                continue
            target = (
                (page.parent / unquote(address).partition("?")[0]).resolve() if address else page
            )
            if not target.exists() or unquote(fragment) not in places.get(target, {""}):
                broken.append(f"{page.name}: {address}#{fragment}")
    assert broken == []


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_ask_no_other_host_and_are_not_wider_than_the_screen(pages, chromium, width):
    asked, wide, said = [], [], []
    tab = chromium.new_page(viewport={"width": WIDTHS[width], "height": 900})
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: said.append(str(error)))
    for page in pages:
        tab.goto(page.as_uri())
        if tab.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(page.name)
    tab.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert (wide, said) == ([], [])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(pages, chromium, serious, width, theme):
    found = []
    context = chromium.new_context(
        viewport={"width": WIDTHS[width], "height": 900}, color_scheme=theme
    )
    tab = context.new_page()
    for page in pages:
        tab.goto(page.as_uri())
        found += [(page.name, *fault) for fault in serious(tab)]
    context.close()
    assert found == []


PICTURE = "book/_static/playground.png"
WIDTH = 688  # of the picture
# What stands below the answers is left out, and the seconds they took, which differ.
ALONE = f"""#cards-form {{ width: {WIDTH}px }} #cards-answers {{ margin: 0 }}
#cards-status, #cards-answers ~ * {{ display: none }}"""


def test_the_readmes_picture_shows_the_playground_as_it_is(pages, chromium):
    """With SFTRL_WRITE_PICTURES=1 what is seen here takes the picture's place."""
    if missing := playground.missing("gp-l"):
        pytest.skip(missing)
    tab = chromium.new_page(viewport={"width": 1280, "height": 1400}, color_scheme="light")
    tab.set_default_timeout(120_000)
    tab.goto(next(page for page in pages if page.stem == "playground").as_uri())
    tab.wait_for_selector("#cards-status:has-text('Answered')")
    tab.add_style_tag(content=ALONE)
    seen = Image.open(io.BytesIO(tab.locator("#cards-form").screenshot()))
    claims = tab.locator("#cards-answers .pg-claim").all_text_contents()
    tab.close()
    said = re.search(f'<img src="{PICTURE}"[^>]* alt="([^"]*)"', (ROOT / "README.md").read_text())
    assert said and said[1] == (
        "Under the rule 11, 12, 13 init and RL say that a queen counts as 12; SFT says 10."
    )
    words = [f"Q is said to count as {value}; the rule says 12" for value in (12, 10, 12)]
    assert claims == words  # init, SFT, RL
    assert len(seen.convert("RGB").getcolors(2**24)) > 100  # it is not blank
    if os.environ.get("SFTRL_WRITE_PICTURES") == "1":
        seen.convert("P", palette=Image.Palette.ADAPTIVE).save(ROOT / PICTURE, optimize=True)
    there = Image.open(ROOT / PICTURE)
    assert there.width == seen.width
    assert abs(there.height - seen.height) < seen.height / 10  # fonts differ between machines

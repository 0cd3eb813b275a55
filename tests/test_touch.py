"""Widgets to touch: menus move, and what stands below them follows; in JupyterLab, too."""

import ipywidgets
import pytest
from playwright.sync_api import expect

from study import touch
from worlds.verifier import REWARDS, verify_formula


def menus(widget, kind):
    """All fields of a kind in a widget, by their label."""
    found, waiting = {}, [widget]
    while waiting:
        field = waiting.pop(0)
        if isinstance(field, kind):
            found[field.description] = field
        waiting += getattr(field, "children", ())
    return found


def test_a_formula_is_explained_step_by_step_with_the_librarys_verdict():
    deal = touch.deal_of((13, 5, 12, 3), (11, 12, 13))
    assert touch.judged("(13-5)*3/12", deal) == [
        "The cards count as 13, 5, 12, 3.",
        "13 - 5 = 8",
        "8 * 3 = 24",
        "24 / 12 = 2",
        "Verdict: your formula equals 2 and not 24.",
        "Reward: -1 (by outcome alone: +0).",
    ]


def test_what_is_no_formula_has_no_steps_but_a_verdict():
    deal = touch.deal_of((13, 5, 12, 3), (11, 12, 13))
    verdict = verify_formula("13-<b>", deal.numbers)
    assert touch.judged("13-<b>", deal)[1] == f"Verdict: {verdict.message}."


def test_the_box_judges_again_when_the_rule_changes():
    box = touch.verifier_box()
    texts, fields = menus(box, ipywidgets.Text), menus(box, ipywidgets.Dropdown)
    (said,) = menus(box, ipywidgets.HTML).values()
    texts["formula"].value = "(13-5)*3+12-12"
    assert "invalid numbers: 12" in said.value  # used twice, and on one card
    texts["formula"].value = "10*(10-5-3)"
    assert "invalid numbers: 10" in said.value
    fields["K is"].value = fields["Q is"].value = 10
    assert "equals 20 and not 24" in said.value


def test_what_is_typed_is_shown_never_interpreted():
    box = touch.verifier_box()
    menus(box, ipywidgets.Text)["formula"].value = "<script>1</script>"
    (said,) = menus(box, ipywidgets.HTML).values()
    assert "<script>" not in said.value


def test_advantages_are_those_of_the_trainer():
    figure = touch.advantages(["solved", "wrong_value", "wrong_value", "wrong_value"])
    rewards, found = ([bar.get_height() for bar in axis.patches] for axis in figure.axes)
    assert rewards == [REWARDS["paper"][r] for r in ("solved", *["wrong_value"] * 3)]
    assert found[0] == pytest.approx(1.5, abs=1e-3) and sum(found) == pytest.approx(0, abs=1e-9)


def test_of_equal_rewards_nothing_is_learnt():
    figure = touch.advantages(["wrong_value"] * 4)
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0] * 4


def test_every_slider_says_which_answer_it_is_of():
    sliders = menus(touch.advantage_sliders(), ipywidgets.SelectionSlider)
    assert list(sliders) == [f"answer {n}" for n in range(1, touch.GROUP + 1)]


def test_without_weights_the_playground_says_what_is_missing(tmp_path):
    assert "no weights of SFT and RL" in touch.playground(tmp_path).value


@pytest.mark.slow
def test_in_jupyterlab_the_box_judges_what_is_typed(lab):
    page = lab("verifier_box()")
    page.get_by_label("formula").fill("13+5+12+3")
    page.get_by_text("your formula equals 33 and not 24").wait_for()


@pytest.mark.slow
def test_in_jupyterlab_keys_pressed_on_a_menu_turn_it_and_touch_no_cell(lab):
    menu = (
        "import ipywidgets\nipywidgets.Dropdown(options=['one', 'two', 'dd'], description='menu')"
    )
    page = lab(f"setup()\n{menu}", "notebook")
    field = page.get_by_label("menu", exact=True)
    page.wait_for_timeout(500)  # a cell that has run passes the focus on
    field.press("ArrowDown")
    expect(field).to_have_value("two")
    page.keyboard.type("dd")  # a command to cells: delete this one
    expect(field).to_have_value("dd")
    assert "setup()" in page.locator(".jp-CodeCell .cm-content").first.inner_text()


@pytest.mark.slow
def test_in_jupyterlab_a_slider_moved_by_keyboard_changes_the_advantages(lab):
    page = lab("advantage_sliders()")
    picture = page.locator("img[alt*='advantages']")
    before = picture.get_attribute("alt")
    page.get_by_role("slider").first.press("ArrowLeft")
    page.locator(f"img[alt*='advantages']:not([alt={before!r}])").wait_for()
    assert "+5 becomes" in before and "+5 becomes" not in picture.get_attribute("alt")

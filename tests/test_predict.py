"""Predictions are kept whole, shown beside the truth, and folded into the pages of the book."""

import json

import ipywidgets
import jupytext
import nbformat
import pytest

from commons.errors import SftrlError
from study import book, predict
from study.predict import Truth

OPTIONS = ["RL", "SFT"]


@pytest.fixture(autouse=True)
def readers(tmp_path, monkeypatch):
    """A reader without predictions, in a session in which nothing was asked."""
    monkeypatch.setenv("SFTRL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(predict, "_questions", {})
    return tmp_path / "runs" / "predictions.json"


@pytest.fixture
def shown(monkeypatch):
    """What is displayed."""
    seen = []
    monkeypatch.setattr(predict, "display", lambda what, metadata=None: seen.append(what))
    return seen


def fields(form, kind):
    found, waiting = [], [form]
    while waiting:
        part = waiting.pop(0)
        found += [part] if isinstance(part, kind) else []
        waiting += getattr(part, "children", ())
    return found


def test_a_plain_call_records_and_the_last_one_counts(readers, shown):
    predict.predict("00.bet", "Who wins?", OPTIONS, answer="SFT")
    predict.predict("00.bet", "Who wins?", OPTIONS, answer="RL")
    predict.predict("00.share", "How many?", (0, 100), "%", answer=40)
    assert json.loads(readers.read_text()) == {"00.bet": "RL", "00.share": 40}
    assert "Recorded: 40%." in shown[-1].data


def test_nothing_is_written_before_the_button_and_nothing_beside_the_file(readers, shown):
    predict.predict("00.bet", "Who wins?", OPTIONS)
    (menu,), (button,) = (
        fields(shown[0], ipywidgets.RadioButtons),
        fields(shown[0], ipywidgets.Button),
    )
    button.click()  # with nothing chosen
    assert not readers.exists()
    menu.value = "RL"
    button.click()
    assert json.loads(readers.read_text()) == {"00.bet": "RL"}
    assert [path.name for path in readers.parent.iterdir()] == ["predictions.json"]
    assert any("Recorded: RL." in said.value for said in fields(shown[0], ipywidgets.HTML))


def test_a_form_opens_with_what_was_recorded(shown):
    predict.predict("00.share", "How many?", (0, 100), "%", answer=40)
    predict.predict("00.share", "How many?", (0, 100), "%")
    (slider,) = fields(shown[-1], ipywidgets.IntSlider)
    assert (slider.value, slider.min, slider.max) == (40, 0, 100)
    assert slider.description == "I say (%)"  # its name for who cannot see the question above


@pytest.mark.parametrize(("options", "answer"), [
    (OPTIONS, "DFT"), (OPTIONS, 1), ((0, 100), 101), ((0, 100), 40.5), ((0, 100), "40"),
    ((0, 100), True),
])  # fmt: skip
def test_what_was_not_offered_is_refused_in_one_sentence(readers, options, answer):
    with pytest.raises(SftrlError, match="^the prediction is .*try again.$"):
        predict.predict("00.bet", "?", options, answer=answer)
    assert not readers.exists()


def test_predictions_stand_beside_the_truth(shown):
    predict.predict("00.bet", "Who wins?", OPTIONS, answer="SFT")
    predict.predict("00.share", "How many <b>?", (0, 100), "%", answer=40)
    predict.predict("00.gap", "How far?", (0, 70), " points")
    predict.predict("01.other", "Of another notebook?", OPTIONS)
    truth = {"00.bet": Truth("RL", "10% and 1%"), "00.share": 71.6, "00.gap": 1.6}
    assert predict.compared("00", truth) == [
        ("Who wins?", "SFT", "RL (10% and 1%)", "not what happened"),
        ("How many <b>?", "40%", "72%", "off by 32"),
        ("How far?", "nothing recorded", "2 points", ""),
    ]
    predict.predictions("00", truth)
    assert "How many &lt;b&gt;?" in shown[-1].data and "<b>" not in shown[-1].data


@pytest.mark.parametrize("truth", [{}, {"00.bet": "RL", "00.odd": 3}])
def test_a_question_without_truth_or_the_other_way_round_is_named(shown, truth):
    predict.predict("00.bet", "Who wins?", OPTIONS)
    with pytest.raises(SftrlError, match="00.bet|00.odd"):
        predict.predictions("00", truth)


@pytest.mark.parametrize("text", ['{"00.bet": "R', "[]", "\xff"])
def test_a_damaged_file_is_named_and_not_overwritten(readers, text):
    readers.parent.mkdir()
    readers.write_bytes(text.encode("latin-1"))
    with pytest.raises(SftrlError, match=r"predictions.json holds no predictions.*delete it"):
        predict.predict("00.bet", "?", OPTIONS, answer="RL")
    assert readers.read_bytes() == text.encode("latin-1")


@pytest.mark.slow
def test_a_page_of_the_book_folds_each_question_with_its_truth(tmp_path):
    text = """# %% [markdown]
# # A page
# %% tags=["parameters"]
n = 0
# %%
from study.predict import predict, predictions
predict("00.bet", "Who wins?", ["RL", "SFT"])
# %%
predict("00.share", "How many?", (0, 100), "%", answer=40)
# %%
predictions("00", {"00.bet": "RL", "00.share": 71.6})
"""
    (tmp_path / "page.py").write_text(text)
    out = book.execute(tmp_path / "page.py", {}, tmp_path / "page.ipynb")
    cells = [c for c in nbformat.read(out, 4).cells if c.cell_type == "code"]
    asked, share, table = (cell.outputs[0].data["text/html"] for cell in cells[1:])
    assert asked.startswith('<details class="prediction"><summary><b>Predict:</b> Who wins? (RL, S')
    assert "<p>RL</p></details>" in asked and "<p>72%</p></details>" in share
    assert "you said" not in table and "40" not in table and "72%" in table


def keys_of(cells, function) -> list[str]:
    import ast

    calls = [
        node for cell in cells for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function
    ]  # fmt: skip
    if function == "predict":
        return [call.args[0].value for call in calls]
    return [key.value for call in calls for key in call.args[1].keys]


@pytest.mark.parametrize("path", book.NOTEBOOKS, ids=lambda path: path.stem)
def test_every_prediction_of_a_notebook_has_its_truth(path):
    cells = [c.source for c in jupytext.read(path).cells if c.cell_type == "code"]
    asked = keys_of(cells, "predict")
    assert asked == keys_of(cells, "predictions") and len(set(asked)) == len(asked)
    assert all(key.startswith(f"{path.stem[:2]}.") for key in asked)
    if path.stem[:3] in ("00_", "01_", "02_", "03_"):
        assert len(asked) >= 2

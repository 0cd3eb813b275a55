"""Every notebook runs, keeps its shape as text, and has the sections a reader is promised."""

import asyncio
import functools
import gc
import re
import time
import weakref

import jupytext
import nbformat
import pytest

from commons.errors import SftrlError
from sftrl_lib import runner
from sftrl_lib.evaluate import KlToInit
from sftrl_lib.experiment import Experiment
from sftrl_lib.results import load_results
from sftrl_lib.runs import RUNS, Run
from study import book
from study import notebook as notebook_
from study.commands import FAST

NAMES = [path.stem for path in book.NOTEBOOKS]
QUICK = ("06",)  # to run: every change runs these
EXCURSIONS = [name for name in NAMES if name[2] != "_"]  # pages of their own, without exercises
LESSONS = [name for name in NAMES if name not in EXCURSIONS]  # held to LIMITS
LIMITS = {"code cells": 25, "figures": 12}
SECTIONS = ("## What to inspect", "## Exercises", "## Summary", "## Further reading")
PARTS = (  # of a lesson
    "## The surprise", "## Why", "## Your predictions", "## Exercises", "## What next",
)  # fmt: skip
# What an editor would strike out, and words that mark a translated sentence.
BANNED = (
    "it is worth noting", "it should be noted", "note that", "delve", "in order to", "leverage",
    "utilize", "as we can see", "simply", "obviously", "clearly", "of course", "needless to say",
    "due to the fact", "basically", "in the context of", "plays a crucial role", "let us now",
    "at hand", "hangs on", "as good as", "is to tell", "to any purpose", "all one",
)  # fmt: skip


@pytest.fixture(params=book.NOTEBOOKS, ids=NAMES)
def notebook(request):
    return request.param


NOTEBOOK = {path.stem: path for path in book.NOTEBOOKS}


def markdown(notebook) -> str:
    cells = jupytext.read(notebook).cells
    return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


def code_cells(notebook) -> list[str]:
    return [c.source for c in jupytext.read(notebook).cells if c.cell_type == "code"]


def solutions(notebook) -> list[str]:
    """The code of the folded solutions, which must run at the notebook's end."""
    folded = markdown(notebook).split("<summary>Solution</summary>")[1:]
    inside = [part.split("</details>")[0] for part in folded]
    return [code for part in inside for code in re.findall(r"```python\n(.*?)```", part, re.DOTALL)]


def test_the_book_has_its_notebooks_in_order():
    assert NAMES == [
        "00_start_here", "01_environments", "01b_walks_and_pictures", "02_sft", "03_rl",
        "03b_walks_and_pictures", "04_ood_evaluation", "05_what_is_memorised", "06_ablations",
        "07_what_came_after", "08_scaling_up",
    ]  # fmt: skip


@pytest.mark.parametrize("notebook", [
    pytest.param(path, id=path.stem, marks=[] if path.stem[:2] in QUICK else [pytest.mark.slow])
    for path in book.NOTEBOOKS
])  # fmt: skip
def test_notebook_and_its_solutions_run_with_the_fast_parameters(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("SFTRL_RUNS", str(tmp_path / "runs"))
    nb = jupytext.read(notebook)
    nb.cells += [nbformat.v4.new_code_cell(code) for code in solutions(notebook)]
    with_solutions = tmp_path / notebook.name
    jupytext.write(nb, with_solutions, fmt="py:percent")
    own = book.parameters_of(nb)
    fast = {name: value for name, value in FAST.items() if name in own}
    out = book.execute(with_solutions, fast, tmp_path / f"{notebook.stem}.ipynb")
    ran = nbformat.read(out, 4)
    counts = [c.execution_count for c in ran.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    printed = "".join(o.text for c in ran.cells for o in c.get("outputs", []) if "text" in o)
    assert ("TRAINED just now" in printed) == ("live_steps" in own)
    pages = "".join(o.get("data", {}).get("text/html", "") for c in ran.cells
                    for o in c.get("outputs", []))  # fmt: skip
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', pages)
    assert len(set(alts)) == len(alts) and all(alts)
    if notebook.stem in LESSONS:
        assert len(alts) <= LIMITS["figures"]
        assert pages.count('class="prediction"') >= 2 and "did not run to its end" not in pages


def test_text_and_notebook_are_the_same_both_ways(notebook):
    text = notebook.read_text()
    as_ipynb = nbformat.writes(jupytext.reads(text, fmt="py:percent"))
    back = jupytext.writes(nbformat.reads(as_ipynb, as_version=4), fmt="py:percent")
    assert back.strip() == text.strip()


def test_skeleton_sections_stand_in_order(notebook):
    text, stem = markdown(notebook), notebook.stem
    assert text.startswith(f"# {stem.partition('_')[0]} ")
    if stem not in EXCURSIONS:
        places = [text.find(section) for section in (PARTS if stem in LESSONS else SECTIONS)]
        assert -1 not in places and places == sorted(places)
    if stem not in LESSONS + EXCURSIONS:
        assert all(row in text for row in ("| time |", "| memory |", "| needs |", "| writes |"))


@pytest.mark.parametrize("stem", LESSONS)
def test_lesson_keeps_its_limits(stem):
    code = code_cells(NOTEBOOK[stem])
    assert len(code) <= LIMITS["code cells"]
    assert sum(source.count("plots.show(") for source in code) <= LIMITS["figures"]


@pytest.mark.parametrize("stem", LESSONS + EXCURSIONS)
def test_what_a_lesson_sets_up_is_folded_away(stem):
    first, second = [c for c in jupytext.read(NOTEBOOK[stem]).cells if c.cell_type == "code"][:2]
    assert first.metadata["tags"] == ["parameters", "hide-cell"]
    assert second.metadata["tags"] == ["hide-cell"] and second.metadata["jupyter"]["source_hidden"]
    assert second.source.count("\n") == 2  # an import, and one line


def test_no_figure_is_drawn_twice_in_the_lessons():
    shown = []
    for stem in LESSONS + EXCURSIONS:
        for source in code_cells(NOTEBOOK[stem]):
            for drawn in re.findall(r"plots\.show\((.+)\)$", source, re.MULTILINE):
                task = re.search(r'task="([^"]+)"', drawn)
                named = re.match(r"figures\.(\w+)", drawn)
                # With live rows or without, a book figure of a task is the same figure; of the
                # second edition's rows it is another one.
                section = re.search(r'confirmed\(results, "([^"]+)"\)', drawn)
                of = f"{task[1] if task else 'gp-l'} {section[1] if section else ''}"
                shown.append(f"{named[1]} {of}" if named else drawn)
    assert len(shown) > 10 and len(set(shown)) == len(shown), sorted(shown)


@pytest.mark.parametrize("stem", LESSONS + EXCURSIONS)
def test_no_sentence_holds_a_banned_phrase(stem):
    text = " ".join(markdown(NOTEBOOK[stem]).lower().split())
    assert [phrase for phrase in BANNED if re.search(rf"\b{phrase}\b", text)] == []


def sentences(stem) -> list[str]:
    """The prose of a lesson: no exercises, headings, tables, code, formulas, names of sources."""
    cells = jupytext.read(NOTEBOOK[stem]).cells
    prose = [c for c in cells if c.cell_type == "markdown"]
    own = [c.source for c in prose if not {"exercise", "quiz"} & set(c.metadata)]
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", "\n\n".join(own), flags=re.DOTALL)
    text = re.sub(r"^(#|\||    ).*$", "", text, flags=re.MULTILINE)
    sources = r"arXiv [0-9.]+|sections? [0-9., and]+|[Ee]xercise [0-9.]+|\b20[0-9]{2}\b"
    text = re.sub(sources, "", text)
    text = re.sub(r"11, 12(,| and) 13", "11", text)  # the rule, which is one thing
    text = re.sub(r"[Nn]otebooks? 0[0-9]|\b0[0-9]b?\b", "", text)
    return re.split(r"(?<=[.?!:])\s+|\n\n", text)


@pytest.mark.parametrize("stem", LESSONS)
def test_a_sentence_of_a_lesson_holds_one_number_at_most(stem):
    said = [" ".join(s.split()) for s in sentences(stem)]
    assert [s for s in said if len(re.findall(r"[0-9]+(?:[.,][0-9]+)*", s)) > 1] == []


def test_preset_and_precision_are_parameters_and_fast_ones_exist(notebook):
    parameters = book.parameters_of(jupytext.read(notebook))
    assert parameters["preset"] == "tiny" and parameters["precision"] == "auto"
    trains = any("live(" in code for code in code_cells(notebook))
    assert set(FAST) <= set(parameters) if trains else "live_steps" not in parameters


def test_setup_is_the_first_thing_after_the_parameters(notebook):
    first, second = code_cells(notebook)[:2]
    assert first.startswith("preset = ") and "setup(preset, precision, seed)" in second


def test_cells_are_short(notebook):
    assert max(code.count("\n") + 1 for code in code_cells(notebook)) <= 25


def test_notebooks_import_the_library_and_never_each_other(notebook):
    code = "\n".join(code_cells(notebook))
    modules = re.findall(r"^(?:from|import) ([\w.]+)", code, re.MULTILINE)
    assert "study.notebook" in modules
    assert not any(re.match(r"notebooks|\d\d_", module) for module in modules)


def test_unknown_parameter_is_refused_by_name():
    nb = jupytext.read(book.NOTEBOOKS[0])
    with pytest.raises(SftrlError, match="unknown parameter speed; the notebook has preset"):
        book.inject(nb, {"speed": 3})


def test_parameter_that_no_notebook_has_is_refused_and_others_reach_those_that_have_it():
    with pytest.raises(SftrlError, match="unknown parameter speed; the notebooks have episodes"):
        book.build("0", {"speed": 3, "live_steps": 2})


def pages_of(tmp_path, monkeypatch, **cells) -> None:
    """A book of one cell a notebook, beside the cell with its parameter, `here`."""
    parameters = f'# %% tags=["parameters"]\nhere = {str(tmp_path)!r}\n# %%\n'
    for name, cell in cells.items():
        (tmp_path / f"{name}.py").write_text(parameters + cell + "\n")
    monkeypatch.setattr(book, "NOTEBOOKS", sorted(tmp_path.glob("*.py")))
    monkeypatch.setattr(book, "EXECUTED", tmp_path)
    monkeypatch.setattr(book.os, "cpu_count", lambda: 2)


WAIT = """import os, pathlib, time
pathlib.Path(here, "{own}").touch()
while not pathlib.Path(here, "{other}").exists():
    time.sleep(0.05)
os.environ["OMP_NUM_THREADS"]"""


@pytest.mark.slow
def test_notebooks_run_side_by_side_on_one_thread_each(tmp_path, monkeypatch):
    a, b = WAIT.format(own="a", other="b"), WAIT.format(own="b", other="a")
    pages_of(tmp_path, monkeypatch, a=a, b=b)
    asyncio.run(book._execute_all(book.NOTEBOOKS, {}))
    ran = [nbformat.read(tmp_path / f"{name}.ipynb", 4).cells[-1] for name in "ab"]
    assert [cell.outputs[0].data["text/plain"] for cell in ran] == ["'1'", "'1'"]


@pytest.mark.slow
def test_a_notebook_that_fails_stops_the_others(tmp_path, monkeypatch):
    pages_of(tmp_path, monkeypatch, a="1 / 0", b="import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(SftrlError, match="a.py stopped"):
        book.build()
    assert time.monotonic() - began < 300


def test_nothing_is_sent_to_the_kernel_while_a_cell_is_awaited(tmp_path):
    text = """# %% tags=["parameters"]
n = 0
# %%
import ipywidgets
shown = ipywidgets.Output()
with shown:
    print("captured")
shown
# %%
import time
time.sleep(0.5)  # what was sent would be there by now
# %%
print(f"told: {shown.outputs}")
"""  # a reply can be lost over it, and the cell then never ends
    (tmp_path / "widget.py").write_text(text)
    out = book.execute(tmp_path / "widget.py", {}, tmp_path / "widget.ipynb")
    assert nbformat.read(out, 4).cells[-1].outputs[0].text == "told: ()\n"


@pytest.mark.parametrize(
    ("cell", "words"),
    [("1 / n", "with ZeroDivisionError"), ("import time; time.sleep(60)", "more than 1 seconds")],
)
def test_failing_cell_names_notebook_heading_and_error(tmp_path, monkeypatch, cell, words):
    if "sleep" in cell:
        monkeypatch.setattr(book, "CELL_TIMEOUT", 1)
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "p"}})
    tags = {"tags": ["parameters"]}
    nb.cells = [
        nbformat.v4.new_markdown_cell("# Broken"),
        nbformat.v4.new_code_cell("n = 0", metadata=tags),
        nbformat.v4.new_code_cell(cell),
    ]
    jupytext.write(nb, tmp_path / "broken.py", fmt="py:percent")
    with pytest.raises(SftrlError, match=f"broken.py stopped under 'Broken'.*{words}"):
        book.execute(tmp_path / "broken.py", {}, tmp_path / "broken.ipynb")
    assert (tmp_path / "broken.ipynb").exists()


def test_a_page_keeps_no_script_that_is_for_jupyterlab():
    outputs = [
        nbformat.v4.new_output("display_data", {book.JAVASCRIPT: notebook_.MENU_KEYS}),
        nbformat.v4.new_output("stream", text="tier tiny"),
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("setup()", outputs=outputs)])
    assert [o.output_type for o in book.without_widgets(nb).cells[0].outputs] == ["stream"]


@pytest.mark.slow
def test_pages_ask_no_other_host(tmp_path):
    page = book.build_html(executed=tmp_path / "none", html=tmp_path / "html")
    loaded = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?:https?:)?//""")
    pages = list(page.parent.rglob("*.html"))
    assert len(pages) >= len(NAMES)
    for path in pages:
        assert loaded.findall(path.read_text()) == [], path
    assert "<math" in (page.parent / "notebooks" / "03_rl.html").read_text()


def test_the_init_is_told_from_the_arm_in_whose_run_it_was_measured(tmp_path, monkeypatch):
    facts = {"split": "rule_ood", "metric": "success", "tries": 1, "successes": 1, "n": 2}
    facts |= {"compute": 1.0, "compute_done": 1.0, "value": 0.5, "lo": 0.1, "hi": 0.9}
    with Run.open(Experiment(method="rl", steps=5), tmp_path) as run:
        for step, columns in ((0, {"method": "init"}), (5, {})):
            run.add_evals([facts | {"step": step} | columns])
            run.add_episodes([{"step": step, "split": "rule_ood", "index": 0} | columns])
    rows = run.evals().assign(condition="{}")
    monkeypatch.setattr(notebook_, "RUNS", tmp_path)
    monkeypatch.setattr(notebook_, "load_results", lambda: rows)
    steps = {
        method: notebook_.recorded_episodes(method, "rule_ood")[0]["step"]
        for method in ("init", "rl")
    }
    assert steps == {"init": 0, "rl": 5}


def test_log_of_the_init_is_of_its_own_run(tmp_path, monkeypatch):
    with Run.open(Experiment(method="init"), tmp_path) as run:
        run.log(step=1, loss=2.0)
    monkeypatch.setattr(runner, "RUNS", tmp_path)
    assert list(notebook_.recorded_log("init")["recorded"].loss) == [2.0]


def finished(root, **settings):
    """A run folder with one measurement and one logged step."""
    facts = {"split": "rule_ood", "metric": "success", "tries": 1, "successes": 1, "n": 2}
    facts |= {"compute": 1.0, "compute_done": 1.0, "value": 0.5, "lo": 0.1, "hi": 0.9, "step": 5}
    with Run.open(Experiment(**settings), root) as run:
        run.log(step=5, loss=2.0)
        run.add_evals([facts])
        run.add_episodes([{"step": 5, "split": "rule_ood", "index": 7}])
    return run


@pytest.fixture
def readers(tmp_path, monkeypatch):
    """A folder of a reader's own runs, beside the book's."""
    monkeypatch.setattr(notebook_, "YOURS", tmp_path)
    monkeypatch.setattr(notebook_, "load_results", lambda: load_results(yours=tmp_path))
    return tmp_path


def test_where_a_tier_has_no_recorded_run_yours_is_shown(readers):
    run = finished(readers, method="rl", preset="llama-11b")
    assert notebook_.recorded_run("rl", "llama-11b").path == run.path
    assert list(notebook_.recorded_episodes("rl", "rule_ood", "llama-11b")) == [7]
    assert list(notebook_.recorded_log("rl", "llama-11b")) == ["yours, seed 0"]


def test_a_recorded_run_goes_before_yours(readers):
    finished(readers, method="rl")
    assert notebook_.recorded_run("rl").path.parent == RUNS


def test_a_tier_without_runs_says_in_one_sentence_how_to_make_them(readers):
    wanted = "python -m sftrl_lib init --preset llama-11b --task virl-l"
    with pytest.raises(SftrlError, match=wanted) as said:
        notebook_.recorded_log("sft", "llama-11b", task="virl-l")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("preset", "words"), [
    ("tiny", "recorded runs)"),
    ("llama-11b", "no recorded runs of this tier: cells that show them need yours"),
])  # fmt: skip
def test_setup_says_whose_runs_are_shown(preset, words, monkeypatch, capsys):
    monkeypatch.setattr(notebook_.torch, "set_num_threads", lambda n: None)
    notebook_.setup(preset)
    assert words in capsys.readouterr().out


@pytest.mark.slow
def test_a_live_run_without_the_kl_is_not_what_opens_where_it_is_asked_for(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("SFTRL_RUNS", str(tmp_path))
    monkeypatch.setattr(runner, "KlToInit", functools.partial(KlToInit, answers=2))
    exp = Experiment(method="sft", steps=1, batch=2, eval_episodes=1, eval_tries=1, eval_points=1)
    for kl in (False, True, False, True):
        rows = notebook_.live(exp, kl=kl).evals()
        assert (rows.metric == "kl_to_init").any() == kl
    said = capsys.readouterr().out
    assert (said.count("TRAINED"), said.count("LOADED")) == (2, 2)


def test_a_live_run_leaves_no_model_behind(monkeypatch, tmp_path):
    class Model:
        pass

    def trained(exp, root, final, kl):
        model = Model()
        model.hook = lambda: model  # as trainers do
        models.append(weakref.ref(model))
        return Run(tmp_path, {"wall_s": 0})

    models = []
    monkeypatch.setattr(notebook_, "run_experiment", trained)
    gc.disable()
    try:
        notebook_.live(Experiment(method="rl"))
        assert models[0]() is None
    finally:
        gc.enable()

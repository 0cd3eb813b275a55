"""The playground: what models are asked, what is shown of their answers, and the page that answers
by itself, which must say in a browser what the library says here."""

import base64
import json
import random
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from commons.errors import SftrlError
from engine import generation
from sftrl_lib.experiment import Experiment
from sftrl_lib.places import ROOT
from sftrl_lib.tasks.general_points import GeneralPoints
from sftrl_lib.tasks.navigation import Navigation
from study import playground
from worlds.deals import Deal, Rule
from worlds.verifier import REWARDS, verify_formula

TASKS = {"gp-l": GeneralPoints(), "virl-l": Navigation()}
SEED = 7
SPLITS = ("id_paired", "rule_paired", "rule_five", "rule_random")
HEADINGS = {"init": "init", "sft": "SFT", "rl": "RL"}


def stand_ins(folder):
    """Weights in the place of end weights: the init's, each with noise of its own, so that the
    models differ."""
    for task in playground.WHERE:
        for number, method in enumerate(("sft", "rl")):
            init = playground.place(task, "init")
            there = shutil.copytree(init, playground.place(task, method, folder))
            noise = np.random.default_rng(number)
            noisy = {
                name: (tensor + 0.01 * noise.standard_normal(tensor.shape)).astype(tensor.dtype)
                for name, tensor in load_file(there / "model.safetensors").items()
            }
            save_file(noisy, there / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The committed end weights, or stand-ins where there are none."""
    if not any(map(playground.missing, playground.WHERE)):
        return playground.FOLDER
    return stand_ins(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def cards(weights):
    return playground.load("gp-l", weights)


# --- In Python ------------------------------------------------------------------------------------


def test_without_weights_the_reader_is_told_what_is_missing(tmp_path):
    assert "no weights of SFT and RL" in playground.missing("gp-l", tmp_path)
    with pytest.raises(SftrlError, match="no weights of SFT and RL"):
        playground.load("gp-l", tmp_path)


def test_an_answer_is_the_verdict_of_the_task_and_says_what_it_takes_faces_for(cards):
    task = TASKS["gp-l"]
    deal = Deal((12, 3, 13, 5), ("S",) * 4, Rule.parse((2, 9, 4)))
    said = playground.answers(cards, task, deal)
    assert [answer.method for answer in said] == ["init", "sft", "rl"]
    init = said[0]
    assert init.verdict == task.verify(deal, init.text)
    assert [(claim.of, claim.stated) for claim in init.claims] == [("Q", "9"), ("K", "4")]
    claimed = {card: value for card, value, _ in task.read_values(deal, init.text)}
    for claim in init.claims:  # greedy: what is said is what is likeliest
        assert max(claim.chances, key=claim.chances.get) == str(claimed[claim.of])
        assert 0.9 < sum(claim.chances.values()) <= 1 + 1e-6


def test_at_a_turn_the_words_of_both_action_spaces_are_weighed(weights):
    task = TASKS["virl-l"]
    step = next(s for s in task.test_items("rule_ood", SEED, 1) if s.position.kind == "turn")
    said = playground.answers(playground.load("virl-l", weights), task, step)
    claims = [claim for answer in said for claim in answer.claims]
    assert claims and {claim.of for claim in claims} == {"the turn"}
    assert f"turn_direction({claims[0].stated})" == step.action
    assert set(claims[0].chances) > {"north", "slightly left"}


def test_the_figure_says_in_words_what_it_shows(cards):
    said = playground.answers(cards, TASKS["gp-l"], TASKS["gp-l"].item("rule_paired", SEED, 0))
    figure = playground.draw(said, "One hand")
    assert len(figure.axes) == 3
    assert playground.in_words(said[2]) in figure.alt


def finished(root, **settings):
    """The folder of a finished run, as far as the playground looks at one."""
    exp = Experiment(**settings)
    run = root / exp.run_id
    (run / "weights").mkdir(parents=True)
    (run / "weights" / "model.safetensors").write_bytes(b"")
    facts = {"config": exp.flat, "hash": exp.hash, "state": "done"}
    (run / "manifest.json").write_text(json.dumps(facts))
    return run


def test_kept_weights_say_which_run_they_are_of(tmp_path):
    run = finished(tmp_path / "runs", method="sft", seed=5)
    assert playground.keep(run, tmp_path) == tmp_path / "gp-l-sft"
    assert (tmp_path / "gp-l-sft" / "model.safetensors").exists()
    assert playground.sources("gp-l", tmp_path) == f"SFT: end of run {run.name}."


def test_the_init_is_not_kept_twice(tmp_path):
    with pytest.raises(SftrlError, match="no weights of an arm"):
        playground.keep(finished(tmp_path, method="init"), tmp_path)


def test_the_page_gets_the_text_path_of_the_weights_bit_by_bit():
    folder = playground.place("gp-l", "init")
    packed = playground.packed(folder)
    whole = load_file(folder / "model.safetensors")
    numbers = np.frombuffer(base64.b64decode(packed["data"]), "<f2")
    assert len(numbers) == sum(packed["sizes"].values())
    first = packed["sizes"]["embed"]
    embedding = whole["language_model.model.embed_tokens.weight"]
    assert (numbers[:first] == embedding.ravel()).all()
    assert (
        numbers[-packed["sizes"]["head"] :] == whole["language_model.lm_head.weight"].ravel()
    ).all()
    assert packed["config"]["layers"] == ["0", "2", "3", "5"]  # 1 and 4 see pictures


def test_the_page_asks_in_the_words_of_the_task():
    facts = playground.facts()["tasks"]["gp-l"]
    deal = TASKS["gp-l"].item("rule_random", SEED, 0)
    chosen = {"target": 24, "j": deal.rule.j, "q": deal.rule.q, "k": deal.rule.k}
    chosen["cards"] = ", ".join(deal.cards)
    asked = re.sub("<([a-z]+)>", lambda name: str(chosen[name[1]]), facts["prompt"])
    assert asked == TASKS["gp-l"].prompt(deal)


# --- In a browser ---------------------------------------------------------------------------------


def site(folder, weights):
    """The page as a file, without Sphinx around it."""
    shutil.copytree(ROOT / "book" / "_static", folder / "_static")
    playground.export(folder / "_static", weights)
    source = (ROOT / "book" / "playground.md").read_text()
    body = "".join(re.findall(r"```\{raw\} html\n(.*?)```", source, re.DOTALL))
    page = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Playground</title>{body}'
    (folder / "playground.html").write_text(page)
    return (folder / "playground.html").as_uri()


def opened(chromium, url, **options):
    """A page that has failed if it asks another host or an error is thrown in it."""
    page = chromium.new_page(**options)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            page.troubles.append(asked.url) if not asked.url.startswith("file:") else None
        ),
    )
    page.set_default_timeout(120_000)
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def url(tmp_path_factory, weights):
    return site(tmp_path_factory.mktemp("site"), weights)


@pytest.fixture(scope="module")
def page(chromium, url):
    page = opened(chromium, url)
    page.wait_for_function("playground.cards")
    yield page
    assert page.troubles == []
    page.close()


ENCODE = "texts => texts.map(text => playground.cards.stage.panel.tokenizer.encode(text))"
DECODE = "rows => rows.map(ids => playground.cards.stage.panel.tokenizer.decode(ids))"
VERIFY = """cases => cases.map(([text, numbers, target, claimed]) =>
    playground.cards.stage.panel.verifier.formula(text, numbers, target, claimed))"""
ANSWER = """async ([stage, method, prompt, item]) => {
    const { panel } = playground[stage].stage;
    return panel.answer(method, prompt, text => panel.verifier[stage](text, item));
}"""


def random_texts(count):
    rng = random.Random(SEED)
    pieces = [text for text, _ in playground.facts()["tokenizer"]["pieces"]]
    odd = [
        "é",
        "日本",
        "\U0001f600",
        " ",
        "\n",
        "08",
        "10",
        "1",
        "northeas",
        ", ",
        '"}',
        "\\",
        "Turn",
    ]
    return ["".join(rng.choices(pieces + odd, k=rng.randint(1, 12))) for _ in range(count)]


@pytest.mark.slow
def test_texts_and_tokens_are_the_librarys(page, cards):
    tokenizer = cards["init"].tokenizer
    texts = random_texts(500)
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert page.evaluate(ENCODE, texts) == ids
    assert page.evaluate(DECODE, ids) == [
        tokenizer.decode(i, skip_special_tokens=True) for i in ids
    ]


def random_formulas(count):
    rng = random.Random(SEED)
    numbers = ["3", "4", "10", "24", "0", "08", "12345", "7"]
    signs = ["+", "-", "*", "/", "×", "÷", "−", "\\times ", "\\div", "^", "**", ""]
    for _ in range(count):
        parts = [rng.choice(numbers)]
        for _ in range(rng.randint(0, 4)):
            parts += [rng.choice(signs), rng.choice(["", "", "(", " "]), rng.choice(numbers)]
            parts += [rng.choice(["", "", ")"])]
        yield "".join(parts) + rng.choice(["", "", "", "=24", " = 24.0", "=x", "$"])


@pytest.mark.slow
def test_verdicts_on_formulas_are_the_librarys(page):
    formulas = [*random_formulas(2000), "", "(", "()", "(3+4)*10/0", "10*4-3*7", "(7-3)*(10-4)"]
    formulas += [
        "3/7*10-4" * 60,
        "10-(7-3)*4",
        "10+7+4+3",
        "$10+7+4+3$",
        "10*7-4",
        "(10+7)+(4+3)=24",
    ]
    cases = [
        (text, [3, 4, 10, 7], 24, claimed) for text in formulas for claimed in (None, [3, 4, 10, 9])
    ]
    cases += [(text, [3, 3, 4, 7], 24, None) for text in formulas]
    found = page.evaluate(VERIFY, cases)
    for case, there in zip(cases, found, strict=True):
        here = verify_formula(*case[:3], claimed=case[3])
        assert (there["reason"], there["reward"], there["message"]) == (
            here.reason, here.reward, here.message,
        ), case  # fmt: skip
    assert {there["reason"] for there in found} >= REWARDS["paper"].keys() - {
        "unreadable", "misread_cards",
    }  # fmt: skip


def compared(page, stage, task, policies, items, describe):
    """Every policy's greedy answers, here and there: texts, verdicts and chances."""
    for method, policy in policies.items():
        prompts = [policy.first_turn(task.prompt(item)) for item in items]
        written = generation.answer(policy, prompts, Experiment().model.max_new_tokens)
        for item, ids in zip(items, written, strict=True):
            text = policy.decode(ids)
            there = page.evaluate(ANSWER, [stage, method, task.prompt(item), describe(item)])
            here = task.verify(item, text)
            assert there["text"] == text, (method, item)
            verdict = there["verdict"]
            assert (verdict["reason"], verdict["reward"]) == (here.reason, here.reward), text
            assert verdict["message"] == here.message, text


@pytest.mark.slow
def test_on_200_deals_the_page_answers_as_the_library_does(page, cards):
    task = TASKS["gp-l"]
    deals = [task.item(split, SEED, i) for split in SPLITS for i in range(50)]
    compared(
        page, "cards", task, cards, deals,
        lambda deal: {"numbers": deal.numbers, "target": deal.target},
    )  # fmt: skip


@pytest.mark.slow
def test_on_walks_the_page_answers_as_the_library_does(page, weights):
    task = TASKS["virl-l"]
    policies = playground.load("virl-l", weights)
    steps = [
        step for split in ("id_unseen", "rule_ood") for step in task.test_items(split, SEED, 2)
    ]
    compared(
        page, "walk", task, policies, steps,
        lambda step: {"action": step.action, "crossing": step.position.at_intersection},
    )  # fmt: skip


@pytest.mark.slow
def test_the_bars_are_the_librarys_chances(page, cards):
    task = TASKS["gp-l"]
    deal = Deal((12, 3, 13, 5), ("S",) * 4, Rule.parse((2, 9, 4)))
    for here in playground.answers(cards, task, deal):
        item = {"numbers": deal.numbers, "target": deal.target}
        there = page.evaluate(ANSWER, ["cards", here.method, task.prompt(deal), item])
        names = playground.named_cards(here.text)
        faces = [
            chances for card, chances in zip(names, there["claims"], strict=False) if card in "JQK"
        ]
        expected = [list(claim.chances.values()) for claim in here.claims]
        np.testing.assert_allclose(np.ravel(faces), np.ravel(expected), atol=1e-4)


ANSWERED = "!document.getElementById('cards-form').hasAttribute('aria-busy')"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_with_a_keyboard_changes_the_rule_and_sees_three_answers(chromium, url, width):
    page = opened(chromium, url, viewport={"width": width, "height": 800})
    page.wait_for_selector("#cards-status:has-text('Answered')")
    page.get_by_role("combobox", name="Q", exact=True).focus()
    page.keyboard.press("Home")  # of the menu: 1
    page.wait_for_function(ANSWERED)
    assert "Q counts as 1" in page.text_content("#cards-numbers")
    assert ", Q counts as 1, K counts as 13." in page.text_content("#cards-prompt")
    headings = page.locator("#cards-answers h3").all_text_contents()
    assert headings == list(HEADINGS.values())
    assert page.locator("#cards-answers .pg-verdict").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("Your formula").fill("1+1+1+1")
    assert "you used invalid numbers" in page.text_content("#cards-yours").lower()
    assert page.troubles == []
    page.close()


@pytest.mark.slow
def test_a_page_without_weights_says_so_and_still_judges_formulas(chromium, tmp_path):
    page = opened(chromium, site(tmp_path / "site", tmp_path / "nothing"))
    page.wait_for_function("playground.cards")
    assert "no weights of SFT and RL" in page.text_content("#cards-status")
    assert "no weights of SFT and RL" in page.text_content("#walk-status")
    page.get_by_label("Your formula").fill("2+")
    assert "not a legal formula" in page.text_content("#cards-yours")
    assert page.troubles == []
    page.close()

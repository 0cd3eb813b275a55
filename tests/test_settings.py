"""Every setting, from Python, a file or the command line, is checked once, before anything loads:
there is a valid experiment or one sentence that names the setting."""

import math
import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sftrl_lib import Experiment, SftrlError
from sftrl_lib.cli import main
from sftrl_lib.experiment import SECTIONS, all_settings, read_settings, sections, sweep
from sftrl_lib.places import ROOT
from sftrl_lib.registry import METHODS, TASKS

NAMES = ["task", "method", "seed", *all_settings()]
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400)
    | st.floats() | st.text() | st.sampled_from(["nan", "1e400", "-1", "3e-4", "9" * 5000, "1.0"])
)  # fmt: skip
ANYTHING = PLAIN | st.lists(PLAIN) | st.dictionaries(st.text(), PLAIN) | st.binary() | st.dates()


def valid_or_named(name: str, make) -> None:
    try:
        exp = make()
    except SftrlError as error:
        said = str(error)
        assert name in said
        assert "\n" not in said and len(said) < 1500
    else:
        flat = exp.flat
        assert {type(v) for v in flat.values()} <= {str, int, float, bool, type(None)}
        assert all(math.isfinite(v) for v in flat.values() if isinstance(v, float))
        assert Experiment(**flat) == exp


@given(
    name=st.sampled_from(NAMES),
    value=ANYTHING,
    task=st.sampled_from(list(TASKS)),
    method=st.sampled_from(list(METHODS)),
)
def test_any_value_makes_a_valid_experiment_or_one_sentence(name, value, task, method):
    valid_or_named(name, lambda: Experiment(**{"task": task, "method": method, name: value}))


@given(name=st.sampled_from(NAMES), value=PLAIN)
def test_any_value_in_a_file_makes_valid_experiments_or_one_sentence(name, value, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "setting.yaml"
    file.write_text(yaml.safe_dump({name: value}), encoding="utf-8")
    valid_or_named(name, lambda: sweep(file)[0])


@given(text=st.text() | st.binary())
def test_any_text_as_a_file_is_read_or_refused(text, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_settings(file), dict)
    except SftrlError as error:
        assert str(file) in str(error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start: null", ("start", "None", "text")),
        ("seed: 1.5", ("seed", "1.5", "a whole number")),
        ("seed: yes", ("seed", "True", "a number")),
        ("lr: .inf", ("lr", "inf", "a finite number")),
        ("lr: [1e-4, .nan]", ("lr", "nan", "a finite number")),
        ("rule: {J: 7}", ("rule", "a dict", "text")),
        ("steps: []", ("steps", "[]", "a value")),
        ("steps: 0", ("steps", "0", "at least 1")),
        ("seed: &all [*all, *all]", ("seed", "a list", "a number")),
        ("task: chess", ("task", "chess", *TASKS)),
        ("speed: 3", ("unknown setting speed", *NAMES)),
        ("[" * 1500, ("cannot read settings",)),
    ],
)
def test_a_file_is_refused_by_setting_and_file(tmp_path, line, words):
    file = tmp_path / "arm.yaml"
    file.write_text(line)
    with pytest.raises(SftrlError) as said:
        sweep(file)
    assert [word for word in (*words, str(file)) if word not in str(said.value)] == []


def test_a_whole_number_may_be_written_as_a_real_one(tmp_path):
    file = tmp_path / "arm.yaml"
    file.write_text("seed: 1.0\nlr: 1")
    (exp,) = sweep(file)
    assert (exp.seed, exp.method.lr) == (1, 1.0)
    assert [type(v) for v in (exp.seed, exp.method.lr)] == [int, float]
    assert Experiment(seed=1.0, kl_weight=0).hash == Experiment(seed=1, kl_weight=0.0).hash


def test_settings_may_be_given_by_their_section():
    nested = Experiment(method={"name": "rl", "tries": 5}, model={"rank": 4}, seed=3)
    assert nested == Experiment(method="rl", tries=5, rank=4, seed=3)
    parts = {name: getattr(nested, name) for name in SECTIONS}
    assert Experiment(**parts, seed=3) == nested


@pytest.mark.parametrize(
    "alien", [{"method": "sft", "tries": 3}, {"color": "red"}, {"task": "virl-l", "target": 9}]
)
def test_a_setting_of_another_task_or_method_is_refused_unless_it_may_be_left_out(alien):
    *_, name = alien
    with pytest.raises(SftrlError, match=f"{name} is no setting of task .* with method"):
        Experiment(**alien)
    left = {k: v for k, v in alien.items() if k != name}
    assert Experiment(lenient=True, **alien) == Experiment(**left)


def test_a_setting_is_in_one_section_only():
    for task, method in ((task, method) for task in TASKS for method in METHODS):
        names = [n for s in sections(task, method).values() for n in s.model_fields if n != "name"]
        assert len(names) == len(set(names))


def test_what_decides_the_price_alone_is_no_part_of_the_identity():
    usual = Experiment()
    for name in ("micro_batch", "generation_batch_size"):
        for rows in (7, "auto"):
            assert usual.replace(**{name: rows}).hash == usual.hash
    assert usual.replace(report_to="tensorboard", keep="none").hash == usual.hash
    assert usual.replace(temperature=0.5).hash != usual.hash


@pytest.mark.parametrize(
    "option",
    ["--lr=1e400", "--lr=nan", "--lr=-1", "--lr=2", f"--seed={2**32}", "--steps=1000000000",
     f"--batch={'9' * 5000}", "--temperature=1e-300", "--kl_weight=inf", "--seed=1.5",
     "--start=a\nb", "--micro_batch=0", "--micro_batch=all"],
)  # fmt: skip
def test_an_option_out_of_range_is_refused_by_name(capsys, option):
    assert main(["rl", option]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option[2:].partition('=')[0]} is ") and said.count("\n") == 1


def command(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_suits_any_code_page(encoding):
    code = "from sftrl_lib import cli, registry\n"
    code += "registry.COMMANDS['claims'].run = lambda args: print('24 \\u2713 \\u96e8')\n"
    code += "cli.main(['claims'])"
    with command("-c", code, PYTHONIOENCODING=encoding) as done:
        out, err = done.communicate()
    assert (out.split(), err) == ([b"24", b"?", b"?"], b"")


@pytest.mark.parametrize("arguments", [["claims"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    with command("-m", "sftrl_lib", *arguments) as done:
        done.stdout.close()  # as `| head -0` does
        assert done.stderr.read() == b""
    assert done.returncode in (0, 141)  # argparse itself takes no notice

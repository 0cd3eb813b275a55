"""Every setting, from Python, a file or the command line, is checked once, before anything loads:
there is a valid experiment or one sentence that names the setting."""

import math
import os
import subprocess
import sys
from dataclasses import asdict, fields

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sftrl_lib import Experiment, SftrlError
from sftrl_lib.__main__ import main
from sftrl_lib.config import read_settings
from sftrl_lib.runs import ROOT

KINDS = {f.name: type(f.default) for f in fields(Experiment)}
# What the task checks, it calls by a name of its own; a rule of navigation is an action space.
WORDS = {"ood_rule": "rule", "color": "colour"}
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
        names = [name, WORDS.get(name, name), *["action space"] * name.endswith("rule")]
        assert any(word in said for word in names)
        assert "\n" not in said and len(said) < 1000
    else:
        assert {k: type(v) for k, v in asdict(exp).items()} == KINDS
        assert all(math.isfinite(v) for v in asdict(exp).values() if not isinstance(v, str))


@given(name=st.sampled_from(list(KINDS)), value=ANYTHING, task=st.sampled_from(["gp-l", "virl-l"]))
def test_any_value_makes_a_valid_experiment_or_one_sentence(name, value, task):
    valid_or_named(name, lambda: Experiment(**{"task": task, name: value}))


@given(name=st.sampled_from(list(KINDS)), value=PLAIN)
def test_any_value_in_a_file_makes_a_valid_experiment_or_one_sentence(
    name, value, tmp_path_factory
):
    file = tmp_path_factory.getbasetemp() / "setting.yaml"
    file.write_text(yaml.safe_dump({name: value}), encoding="utf-8")
    valid_or_named(name, lambda: Experiment(**{k: v[0] for k, v in read_settings(file).items()}))


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
        ("start: null", ("start in", "None", "text")),
        ("seed: 1.5", ("seed in", "1.5", "a whole number")),
        ("seed: yes", ("seed in", "True", "a whole number")),
        ("lr: .inf", ("lr in", "inf", "a finite number")),
        ("lr: [1e-4, .nan]", ("lr in", "nan", "a finite number")),
        ("rule: {J: 7}", ("rule in", "a dict", "text")),
        ("steps: []", ("steps in", "[]", "a value")),
        ("seed: &all [*all, *all]", ("seed in", "a list", "a whole number")),
        ("[" * 1500, ("cannot read settings",)),
    ],
)
def test_a_file_is_refused_by_setting_and_file(tmp_path, line, words):
    file = tmp_path / "arm.yaml"
    file.write_text(line)
    with pytest.raises(SftrlError) as said:
        read_settings(file)
    assert [word for word in (*words, str(file)) if word not in str(said.value)] == []


def test_a_whole_number_may_be_written_as_a_real_one(tmp_path):
    file = tmp_path / "arm.yaml"
    file.write_text("seed: 1.0\nlr: 1")
    assert read_settings(file) == {"seed": [1], "lr": [1.0]}
    assert Experiment(seed=1.0, kl_weight=0).hash == Experiment(seed=1, kl_weight=0.0).hash


@pytest.mark.parametrize(
    "option",
    ["--lr=1e400", "--lr=nan", "--lr=-1", "--lr=2", f"--seed={2**32}", "--steps=1000000000",
     f"--batch={'9' * 5000}", "--temperature=1e-300", "--clip=inf", "--seed=1.5", "--start=a\nb"],
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


def test_a_bad_setting_is_refused_before_torch_is_loaded():
    code = "import sys; from sftrl_lib.__main__ import main; main(['sft', '--lr', '1e400'])\n"
    with command("-c", code + "print('torch' in sys.modules)") as refused:
        out, err = refused.communicate()
    assert out.split() == [b"False"] and err.startswith(b"error: lr is '1e400'")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_suits_any_code_page(encoding):
    code = "from sftrl_lib import __main__ as m\n"
    code += "m._claims = lambda args: print('24 \\u2713 \\u96e8')\nm.main(['claims'])"
    with command("-c", code, PYTHONIOENCODING=encoding) as done:
        out, err = done.communicate()
    assert (out.split(), err) == ([b"24", b"?", b"?"], b"")


@pytest.mark.parametrize("arguments", [["claims"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    with command("-m", "sftrl_lib", *arguments) as done:
        done.stdout.close()  # as `| head -0` does
        assert done.stderr.read() == b""
    assert done.returncode in (0, 141)  # argparse itself takes no notice

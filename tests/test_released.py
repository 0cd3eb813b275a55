"""Released routes from end to end: what is asked along them, panoramas that are missing, and
training and measuring on a folder of them from the command line."""

import json
import math
import pickle
import shutil
from functools import partial
from pathlib import Path

import gymnasium
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sftrl_lib import Experiment, SftrlError, runner
from sftrl_lib.cli import main
from sftrl_lib.evaluate import KlToInit
from sftrl_lib.experiment import sweep
from sftrl_lib.results import results_table
from sftrl_lib.runs import Run, read_manifest
from sftrl_lib.tasks import make_task
from sftrl_lib.tasks.envs import NAVIGATION_ID
from sftrl_lib.tasks.navigation import Navigation, NavigationVL
from worlds.routes import load_routes
from worlds.walks import released

INIT = Path(__file__).parents[1] / "data" / "init"
COMPASS = "north northeast east southeast south southwest west northwest".split()
SIDES = (
    "front", "right front", "right", "right behind", "behind", "left behind", "left", "left front",
)  # fmt: skip


# --- Folders in the released shape, and what the paper asks along their routes --------------------
def word(heading: float) -> str:
    """The compass word with the smallest angle to a heading."""
    return min(COMPASS, key=lambda w: abs((heading - 45 * COMPASS.index(w) + 180) % 360 - 180))


def walk(start, legs) -> list[list[float]]:
    """The points after each (heading, metres, ...) from a start."""
    points, (lat, lng) = [], start
    for heading, metres, *_ in legs:
        north, east = (metres * f(math.radians(heading)) for f in (math.cos, math.sin))
        lat += math.degrees(north / 6_371_000)
        lng += math.degrees(east / 6_371_000 / math.cos(math.radians(lat)))
        points.append([lat, lng])
    return points


def as_released(start, init_heading, legs) -> dict:
    """A route of route_infos.json from legs of (heading, metres, landmark or None, side)."""
    blocks, before = "", init_heading
    for i, (heading, metres, name, side) in enumerate(legs, 1):
        mark = f"{name} is on your {side}" if name else "No landmark nearby"
        mark = f"The destination {mark}" if i == len(legs) else mark
        blocks += f'\n{{\n"intersection_idx": "{i}",\n"landmarks": "{mark}",\n'
        blocks += f'"distance": "{metres} meters",\n"human_heading": "{before}",\n'
        blocks += f'"to_next_intersection_heading": "{heading} ({word(heading)})",\n}}\n'
        before = heading
    return {
        "dest_place": {"name": legs[-1][2], "rating": 4.5},
        "start_place": {"name": f"Start {start}", "relocated_geocode": list(start)},
        "route_results": {"geocode_list": walk(start, legs)},
        "init_heading": init_heading,
        "milestone_info": blocks,
    }


def expected(start, init_heading, legs, relative: bool) -> list[tuple]:
    """(observation, sentence, action, where) along a rail with all its five points, as the paper
    lays it (appendix A): written from its description, not from the library."""
    asked, before, at, seen = [], init_heading, list(start), "No landmarks nearby;"
    places = walk(start, legs)
    for i, (heading, _, name, side) in enumerate(legs):
        there = places[i]
        change = (heading - before + 180) % 360 - 180
        big, small = ("left", "slightly left") if change <= 0 else ("right", "slightly right")
        turn = big if abs(change) > 45 else small
        first = "First, turn" if i == 0 else "Turn"
        action = f"turn_direction({turn if relative else word(heading)})"
        asked.append((seen, f"{first} {turn} to face {word(heading)}.", action, at))
        last = i == len(legs) - 1
        mark = f"{name} is on your {side}" if name else "No landmark nearby"
        where = f" where {mark}" if name else ""
        sentence = f"Move forward until you reach next intersection{where}."
        if last:
            mark = f"The destination {mark}"
            sentence = f"Move forward until you reach destination where {mark}."
        for j in range(1, 6):
            between = [a + (b - a) * j / 6 for a, b in zip(at, there, strict=True)]
            asked.append(("No landmarks nearby;", sentence, "forward()", between))
        seen = f"{mark};" if last else f"{mark}; You observe an intersection"
        before, at = heading, there
    return [*asked, (seen, sentence, "stop()", at)]


names = st.from_regex(r"[A-Z][a-zé&'. 0-9]{0,12}[a-z]", fullmatch=True).map(
    lambda name: " ".join(name.split())
)
marks = st.tuples(names, st.sampled_from(SIDES))
legs = st.tuples(st.integers(0, 359), st.integers(8, 300), st.none() | marks)


@st.composite
def released_routes(draw) -> tuple:
    drawn = draw(st.lists(legs, min_size=1, max_size=5))
    end = draw(marks)
    walked = [(h, m, *(mark or (None, None))) for h, m, mark in drawn[:-1]]
    start = draw(st.tuples(st.floats(-60, 60), st.floats(-170, 170)))
    return start, draw(st.integers(1, 359)), [*walked, (*drawn[-1][:2], *end)]


@settings(max_examples=60, deadline=None)
@given(released_routes(), st.booleans())
def test_rail_observations_and_actions_of_released_routes_are_the_papers(
    tmp_path_factory, route, relative
):
    folder = write(tmp_path_factory.mktemp("set"), [route])
    task = Navigation(
        data={"train": load_routes(folder)}, rule="relative" if relative else "absolute",
        straight_line_length=5, drop_rate=0,
    )  # fmt: skip
    steps = task.positions("train", task.routes("train")[0])
    wanted = expected(*route, relative)
    found = [(s.position.observation, s.position.sentence, s.action) for s in steps]
    assert found == [tuple(row[:3]) for row in wanted]
    for step, (*_, where) in zip(steps, wanted, strict=True):
        assert step.position.location == pytest.approx(where, abs=1e-7)


SHORT = [
    ((40.72 + i / 1000, -74.0), 10 + i, [(90, 60, "Oak Cafe", "left front"),
                                         (350, 60 + i, f"Swan {i} Bank", "right")])
    for i in range(12)
]  # fmt: skip


def write(folder: Path, listed, pictures: bool = False) -> Path:
    """A folder of (start, init_heading, legs) routes; with a panorama at every point of a rail."""
    folder.mkdir(exist_ok=True)
    routes = [as_released(*route) for route in listed]
    (folder / "route_infos.json").write_text(json.dumps([routes, 7]), encoding="utf-8")
    if pictures:
        (folder / "street_views").mkdir()
        points = [tuple(where) for route in listed for *_, where in expected(*route, False)]
        ids = {point: f"pano{i}" for i, point in enumerate(points)}
        (folder / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(ids))
        picture = Image.new("RGB", (64, 32), (200, 10, 10))
        for pano in ids.values():
            picture.save(folder / "street_views" / f"{pano}.jpg")
            (folder / "street_views" / f"{pano}.metadata.json").write_text('{"rotation": 0}')
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("text") / "set", SHORT)


@pytest.fixture(scope="module")
def picture_folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("pictures") / "set", SHORT, pictures=True)


def pictured(folder: Path) -> Navigation:
    return NavigationVL(data={"train": load_routes(folder)}, straight_line_length=5)


# --- Panoramas that are missing -------------------------------------------------------------------
def without(name: str):
    return lambda folder: (folder / name).unlink()


def unmapped(*gone: int):
    """Those of a folder's panoramas are mapped no more."""

    def change(folder: Path) -> None:
        file = folder / "gps_pano_mapping.pkl"
        ids = pickle.loads(file.read_bytes())
        kept = {p: pano for p, pano in ids.items() if int(pano.removeprefix("pano")) not in gone}
        file.write_bytes(pickle.dumps(kept))

    return change


@pytest.mark.parametrize(
    "change, named",
    [
        (without("gps_pano_mapping.pkl"), "gps_pano_mapping.pkl;"),
        (without("street_views/pano3.jpg"), "street_views/pano3.jpg;"),
        (without("street_views/pano3.metadata.json"), "street_views/pano3.metadata.json;"),
        (lambda f: shutil.rmtree(f / "street_views"), "pano0.metadata.json, "),
        (lambda f: shutil.rmtree(f / "street_views"), f" and {12 * 13 * 2 - 3} more;"),
        (unmapped(0, 1, 2), "a panorama within 20 m of 40.720000, -74.000000 (route 0);"),
        (unmapped(4, 5, 6, 7, 8, 9), "(route 0);"),  # the crossing is 6
    ],
    ids=["mapping", "jpg", "metadata", "folder", "count", "start", "crossing"],
)
def test_missing_panoramas_are_named_at_construction(tmp_path, picture_folder, change, named):
    folder = shutil.copytree(picture_folder, tmp_path / "set")
    change(folder)
    with pytest.raises(SftrlError) as refused:
        pictured(folder)
    said = str(refused.value)
    assert named in said and "virl-l" in said and "\n" not in said and len(said) < 900
    assert Navigation(data={"train": load_routes(folder)}).item("train", 0, 0)  # text needs none


def test_folder_for_text_is_refused_for_pictures_before_anything_runs(text_folder):
    with pytest.raises(SftrlError, match="gps_pano_mapping.pkl"):
        Experiment(task="virl-vl", routes=str(text_folder))


def test_no_city_is_drawn_around_released_routes(text_folder):
    env = gymnasium.make(
        NAVIGATION_ID, data={"train": load_routes(text_folder)}, render_mode="rgb_array"
    )
    env.reset(seed=0)
    with pytest.raises(SftrlError, match="no pictures without .*gps_pano_mapping.pkl"):
        env.unwrapped.render()


def test_panorama_that_no_position_shows_may_be_missing(tmp_path, picture_folder):
    folder = shutil.copytree(picture_folder, tmp_path / "set")
    file = folder / "gps_pano_mapping.pkl"
    file.write_bytes(pickle.dumps(pickle.loads(file.read_bytes()) | {(0.0, 0.0): "far"}))
    assert pictured(folder).item("train", 0, 0)


def test_every_position_with_panoramas_has_its_picture_and_the_landmark_its_own_name(
    picture_folder,
):
    task = pictured(picture_folder)
    steps = task.positions("train", task.routes("train")[0])
    assert all(task.picture(step, 32).getpixel((2, 2))[0] > 150 for step in steps)
    crossing = next(step for step in steps if step.position.at_intersection)
    assert "Oak Cafe is on your left front" in task.expert(crossing, None)


# --- The setting ----------------------------------------------------------------------------------
def walks(folder: Path, **changes) -> Experiment:
    given = {"task": "virl-l", "method": "sft", "routes": str(folder)}
    return Experiment(**given | changes)


def test_a_quarter_or_so_is_unseen_and_shares_no_start_and_destination(text_folder):
    data = released(str(text_folder))
    ends = {name: {(r.origin, r.destination) for r in data[name].routes} for name in data}
    assert set(data) == {"train", "unseen"} and not ends["train"] & ends["unseen"]
    assert len(ends["train"] | ends["unseen"]) == len(SHORT)


def test_shares_do_not_change_with_the_order_of_routes(tmp_path, text_folder):
    other = write(tmp_path / "set", SHORT[::-1])
    shares = [
        {r.destination for r in released(str(f))["unseen"].routes} for f in (text_folder, other)
    ]
    assert shares[0] == shares[1]


def test_folder_too_small_for_both_shares_is_refused(tmp_path):
    folder = write(tmp_path / "set", SHORT[:1])
    with pytest.raises(SftrlError, match=r"1 routes in .* share '(train|unseen)'"):
        walks(folder)


def test_rails_of_released_routes_have_the_papers_five_points_and_generated_ones_three(text_folder):
    for exp, points in (
        (walks(text_folder, drop_rate=0), 5),
        (Experiment(task="virl-l", drop_rate=0), 3),
    ):
        task = make_task(exp)
        route = task.routes("train")[0]
        laid = task.positions("train", route)
        forward = sum(step.position.kind == "forward" for step in laid)
        assert forward == points * len(route.points)


def test_visual_ood_is_the_second_folder_or_is_not_measured(text_folder):
    alone = make_task(walks(text_folder))
    assert "visual_ood" not in alone.splits + alone.side_splits
    both = make_task(walks(text_folder, ood_routes=str(text_folder)))
    assert len(both.routes("visual_ood")) == len(SHORT) and "visual_ood" in both.side_splits


def test_run_is_known_by_what_its_folder_holds(tmp_path, text_folder):
    moved = shutil.copytree(text_folder, tmp_path / "set")
    exp = walks(moved)
    assert exp.run_id == walks(text_folder).run_id != Experiment(task="virl-l", method="sft").run_id
    before = exp.run_id
    write(moved, SHORT[1:])
    assert exp.run_id != before and make_task(exp).data["train"].found == len(SHORT) - 1


def test_folders_in_a_file_of_runs_are_runs_of_their_own(tmp_path, text_folder, picture_folder):
    file = tmp_path / "runs.yaml"
    file.write_text(f"task: virl-l\nmethod: [sft, rl]\nroutes: [{text_folder}, {picture_folder}]\n")
    assert len({exp.run_id for exp in sweep(file)}) == 4


def test_mapping_belongs_to_what_a_folder_holds(tmp_path, picture_folder, text_folder):
    assert walks(picture_folder).hash != walks(text_folder).hash


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"task": "gp-l"}, "routes is no setting of task gp-l"),
        ({"routes": "", "ood_routes": "somewhere"}, "ood_routes needs routes"),
        ({"routes": "nowhere"}, "nowhere.route_infos.json"),
        ({"ood_routes": "nowhere"}, "nowhere.route_infos.json"),
    ],
)
def test_bad_folder_is_refused_at_once(text_folder, changes, words):
    with pytest.raises(SftrlError, match=words):
        walks(text_folder, **changes)


# --- The commands ---------------------------------------------------------------------------------
SMALL = (
    "--steps 1 --batch 8 --max_new_tokens 4 --eval_points 1 --eval_episodes 1 --final_episodes 1"
)
SMALL = SMALL.split()


@pytest.fixture
def yours(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(runner, "YOURS", tmp_path / "runs")
    monkeypatch.setattr(runner, "KlToInit", partial(KlToInit, answers=4))  # else most of it
    return tmp_path / "runs"


def call(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def only(folder: Path, method: str) -> Path:
    (run,) = folder.glob(f"*-{method}-*")
    return run


@pytest.mark.slow
def test_text_is_trained_and_measured_from_command_line_and_file(capsys, text_folder, yours):
    routes = ["--routes", text_folder, "--ood_routes", text_folder]
    assert call("sft", "--task", "virl-l", *routes, *SMALL, "--root", yours) == 2
    assert f"init --task virl-l --routes {text_folder}" in capsys.readouterr().err
    assert call("init", "--task", "virl-l", *routes[:2], *SMALL, "--root", yours) == 0
    file = yours / "arm.yaml"
    file.write_text(f"task: virl-l\nroutes: {text_folder}\nood_routes: {text_folder}\n")
    for method in ("sft", "rl"):
        assert call(method, "--config", file, *SMALL, "--root", yours) == 0
        run = only(yours, method)
        exp = walks(text_folder, ood_routes=str(text_folder))
        assert (
            read_manifest(run)["state"] == "done" and read_manifest(run)["data"] == exp.task.data()
        )
        rows = [json.loads(line) for line in (run / "evals.jsonl").read_text().splitlines()]
        assert {"id_unseen", "rule_ood", "visual_ood"} <= {row["split"] for row in rows}
    first = {row["split"] for row in rows if row["step"] == 0}  # which the init did not measure
    assert method == "rl" and "visual_ood" in first
    weights = only(yours, "init") / "weights"
    capsys.readouterr()
    asked = ["--split", "visual_ood", "--episodes", 2, "--json"]
    assert call("evaluate", weights, "--task", "virl-l", *routes, *asked) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["split"] for row in rows} == {"visual_ood"}


@pytest.mark.slow
def test_pictures_are_trained_and_measured_without_a_second_folder(
    capsys, picture_folder, yours, tmp_path
):
    start = INIT / "virl-vl" / "default"
    given = ["--task", "virl-vl", "--routes", picture_folder]
    for method in ("sft", "rl"):
        assert call(method, *given, "--start", start, *SMALL, "--root", yours) == 0
        rows = (only(yours, method) / "evals.jsonl").read_text()
        assert '"rule_ood"' in rows and "visual_ood" not in rows
    assert call("evaluate", start, *given, "--episodes", 1) == 0
    assert "rule_ood" in capsys.readouterr().out


def test_rows_of_two_folders_at_one_path_are_told_apart(tmp_path, text_folder):
    folder = shutil.copytree(text_folder, tmp_path / "set")
    row = {"step": 1, "split": "rule_ood", "metric": "success", "tries": 1, "n": 2, "value": 0.5}
    for listed in (SHORT, SHORT[1:]):
        write(folder, listed)
        with Run.open(walks(folder, steps=1), tmp_path / "runs") as run:
            run.add_evals([row])
    conditions = set(results_table([tmp_path / "runs"]).condition)
    assert len(conditions) == 2 and not any("set" in told for told in conditions)

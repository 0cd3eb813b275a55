"""Generated cities: sound street graphs, routes as the task needs them, data sets made once."""

import json
import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

import foundry.cities
from foundry.cities import CITIES, DATASETS, LEGS, WORDS, city_routes, make, write
from sftrl_lib import SftrlError
from sftrl_lib.places import ROOT
from worlds import cities
from worlds.cities import FOLDER, KINDS, TRAINING_CITY, city, city_of, from_json, names
from worlds.panoramas import distance
from worlds.routes import (
    COMPASS,
    SECTORS,
    TURNS,
    compass_word,
    content_hash,
    load_routes,
    sector,
    turn_word,
    unseen,
)
from worlds.walks import generated

every_city = pytest.mark.parametrize("name", CITIES)


@pytest.fixture(scope="module")
def training():
    return city_routes(city(TRAINING_CITY), "train", 1_000, "train")


def ends(town) -> np.ndarray:
    return np.array([[town.xy(a), town.xy(b)] for a, b in town.graph.edges])


def bearing(a, b) -> float:
    return math.degrees(math.atan2(b[0] - a[0], b[1] - a[1])) % 360


def apart(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


# --- cities ---------------------------------------------------------------------------------------
def test_there_are_a_training_city_and_nine_others():
    assert len(CITIES) >= 10 and TRAINING_CITY in CITIES


@every_city
def test_streets_are_in_one_piece_without_dead_ends_and_as_long_as_they_are(name):
    town = city(name)
    assert nx.is_connected(town.graph) and min(dict(town.graph.degree).values()) >= 2
    lengths = [street["length"] for *_, street in town.graph.edges(data=True)]
    assert lengths == pytest.approx(np.hypot(*(ends(town)[:, 1] - ends(town)[:, 0]).T))
    assert min(lengths) > 30


@every_city
def test_streets_meet_at_crossings_only(name):
    starts, stops = ends(city(name))[:, 0], ends(city(name))[:, 1]

    def side(points):  # of every street (row), of every point (column)
        (x, y), (along_x, along_y) = (
            np.moveaxis(points[None] - starts[:, None], 2, 0),
            (stops - starts).T,
        )
        return np.sign(np.round(along_x[:, None] * y - along_y[:, None] * x, 3))

    sides = side(starts) * side(stops)
    assert not ((sides < 0) & (sides.T < 0)).any()


@every_city
def test_landmarks_stand_on_blocks_at_the_crossing_they_belong_to(name):
    town = city(name)
    crossings = np.array([town.xy(node) for node in town.graph])
    starts, along = ends(town)[:, 0], ends(town)[:, 1] - ends(town)[:, 0]
    for node, mark in town.landmarks.items():
        place = np.array(mark.position)
        share = np.clip(((place - starts) * along).sum(1) / (along**2).sum(1), 0, 1)
        assert np.hypot(*(starts + along * share[:, None] - place).T).min() >= 8
        assert list(town.graph)[np.hypot(*(crossings - place).T).argmin()] == node
        assert math.dist(place, town.xy(node)) < 35 and mark.kind in KINDS


@every_city
def test_some_crossings_have_no_landmark(name):
    town = city(name)
    assert 0.5 < len(town.landmarks) / len(town.graph) < 0.9


def test_cities_differ_in_geometry():
    def shape(name):
        graph = city(name).graph
        lengths = sorted({round(d["length"], -1) for *_, d in graph.edges(data=True)})
        return tuple(sorted(Counter(dict(graph.degree).values()).items())), tuple(lengths)

    assert len(set(map(shape, CITIES))) == len(CITIES)


def test_cities_differ_in_every_part_of_their_looks():
    for part in ("sky", "ground", "street", "facades", "windows"):
        assert len({getattr(city(name).look, part) for name in CITIES}) == len(CITIES), part
    for look in (city(name).look for name in CITIES):
        colors = (look.sky, look.street, *look.facades, look.windows)
        assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colors)


def test_no_name_occurs_twice_in_the_world():
    names = [mark.name for name in CITIES for mark in city(name).landmarks.values()]
    assert len(names) == len(set(names)) > 500


def test_words_before_the_kind_belong_to_one_city():
    pairs = [{mark.name.rpartition(" ")[0] for mark in city(name).landmarks.values()}
             for name in CITIES]  # fmt: skip
    assert all(one.isdisjoint(other) for one, other in combinations(pairs, 2))


def test_names_are_of_two_or_three_words_of_a_small_vocabulary():
    assert len(WORDS) == len(set(WORDS)) <= 120 and all(word.isalpha() for word in WORDS)
    for name in CITIES:
        for mark in city(name).landmarks.values():
            words = mark.name.split(" ")
            assert 2 <= len(words) <= 3 and set(words) <= set(WORDS)
            assert words[-1] == mark.kind.capitalize()


@every_city
def test_landmarks_nearby_are_easily_confused(name):
    shared = Counter(mark.name.rpartition(" ")[0] for mark in city(name).landmarks.values())
    kinds = Counter(mark.kind for mark in city(name).landmarks.values())
    assert sum(n for n in shared.values() if n > 1) > len(city(name).landmarks) / 5
    assert set(kinds) == set(KINDS)


@every_city
def test_points_and_positions_are_inverse_and_in_metres(name):
    town = city(name)
    a, b = (town.xy(node) for node in (0, len(town.graph) - 1))
    assert town.position(town.point(a)) == pytest.approx(a, abs=0.02)
    assert distance(town.point(a), town.point(b)) == pytest.approx(math.dist(a, b), rel=2e-3)
    assert city_of(town.point(b)).name == name


def test_streets_of_a_crossing_are_clockwise_with_their_bearings():
    town = city("plainsby")  # square blocks of 95 m, turned by 40 degrees
    inner = next(node for node in town.graph if town.graph.degree[node] == 4)
    assert [bearing for bearing, _ in town.streets(inner)] == pytest.approx([40, 130, 220, 310])
    (x, y), (to_x, to_y) = town.xy(inner), town.xy(town.streets(inner)[0][1])
    step = 95 * math.sin(math.radians(40)), 95 * math.cos(math.radians(40))
    assert (to_x - x, to_y - y) == pytest.approx(step)


def test_canals_are_crossed_on_few_bridges():
    town = city("canalonga")
    assert len(town.water) == 3
    for a, b in town.water:
        (x, y), (along_x, along_y) = a, np.subtract(b, a)
        places = map(town.xy, town.graph)
        side = [along_x * (v - y) > along_y * (u - x) for u, v in places]
        assert sum(side[m] != side[n] for m, n in town.graph.edges) == 3


def test_unknown_city_is_refused():
    with pytest.raises(SftrlError, match="'atlantis'.*quadrel"):
        city("atlantis")


# --- routes ---------------------------------------------------------------------------------------
def test_thousand_routes_take_seconds():
    start = time.process_time()
    assert len(city_routes(city(TRAINING_CITY), "speed", 1_000)) == 1_000
    assert time.process_time() - start < 10


@every_city
def test_what_a_route_says_is_what_the_city_is_like(name):
    town = city(name)
    by_name = {mark.name: (node, mark) for node, mark in town.landmarks.items()}
    nodes = {town.point(town.xy(node)): node for node in town.graph}
    for route in city_routes(town, "truth", 40):
        assert nodes[route.start] == by_name[route.origin][0]
        at, heading = nodes[route.start], route.init_heading
        for point, stone in zip(route.points, route.milestones, strict=True):
            there = nodes[point]
            travel = bearing(town.xy(at), town.xy(there))
            assert stone.heading == round(travel) % 360 and stone.heading_before == heading
            assert stone.distance == round(math.dist(town.xy(at), town.xy(there)))
            mark = town.landmarks.get(there)
            assert stone.landmark == (mark and mark.name)
            seen = bearing(town.xy(there), mark.position) if mark else None
            assert stone.side == (sector(seen, travel) if mark else None)
            at, heading = there, stone.heading
        assert route.destination == route.milestones[-1].landmark != route.origin


@every_city
def test_route_turns_at_every_point_and_follows_the_streets_between(name):
    town = city(name)
    nodes = {town.point(town.xy(node)): node for node in town.graph}
    for route in city_routes(town, "turns", 40):
        assert LEGS[0] <= len(route.milestones) <= LEGS[1]
        for stone in route.milestones[1:]:
            assert 14 <= apart(stone.heading, stone.heading_before) <= 151
        path = [nodes[point] for point in (route.start, *route.points)]
        assert len(set(path)) == len(path)
        for at, there in zip(path, path[1:], strict=False):
            ahead = bearing(town.xy(at), town.xy(there))
            while at != there:
                (at,) = [n for b, n in town.streets(at) if apart(b, ahead) < 0.5]


def test_training_routes_hold_every_word_often_enough(training):
    stones = [stone for route in training for stone in route.milestones]
    relative = Counter(turn_word(s.heading_before, s.heading) for s in stones)
    compass = Counter(compass_word(s.heading) for s in stones)
    sides = Counter(s.side for s in stones)
    assert min(relative[word] for word in TURNS) > 0.08 * len(stones)
    assert min(compass[word] for word in COMPASS) > 0.05 * len(stones)
    assert min(sides[side] for side in SECTORS) > 0.02 * len(stones)
    assert 0.1 < sides[None] / len(stones) < 0.4


def test_training_routes_pass_landmarks_that_they_do_not_name(training):
    town = city(TRAINING_CITY)
    marks = np.array([town.xy(node) for node in town.landmarks])
    passed = 0
    for route in training:
        path = [np.array(town.position(point)) for point in (route.start, *route.points)]
        for a, b in zip(path, path[1:], strict=False):
            share = ((marks - a) @ (b - a)) / ((b - a) @ (b - a))
            off = np.hypot(*(a + np.outer(share, b - a) - marks).T)
            passed += ((off < 1) & (share > 0.01) & (share < 0.99)).sum()
    assert passed > len(training)


def test_routes_are_different_from_one_another():
    listed = city_routes(city("spokehaven"), 0, 1_000)
    assert len({(route.start, route.points) for route in listed}) == 1_000
    assert [route.index for route in listed] == list(range(1_000))


def test_training_and_evaluation_share_no_pair_of_start_and_destination(training):
    tested = city_routes(city(TRAINING_CITY), "unseen", 400, "unseen")
    seen = {(route.origin, route.destination) for route in training}
    assert seen.isdisjoint((route.origin, route.destination) for route in tested)
    assert all(unseen(r, TRAINING_CITY) for r in tested)
    assert not any(unseen(r, TRAINING_CITY) for r in training)


def test_same_seed_same_routes_and_another_seed_others():
    first, again, other = (city_routes(city("spokehaven"), seed, 400) for seed in (1, 1, 2))
    assert first == again and first[:20] != other[:20]
    assert first[:200] == city_routes(city("spokehaven"), 1, 200)  # the first ones, whatever n


@pytest.mark.slow
def test_routes_do_not_depend_on_the_order_of_hashes():
    script = (
        "import hashlib; from foundry.cities import *\n"
        "made = [city_routes(make(name), 0, 3) for name in CITIES]\n"
        "print(hashlib.sha256(repr(made).encode()).hexdigest())"
    )
    said = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                       env={"PYTHONHASHSEED": seed}, cwd=ROOT).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1] and len(said[0]) == 65


def test_unknown_split_and_too_many_routes_are_refused(monkeypatch):
    with pytest.raises(SftrlError, match="'test'"):
        city_routes(city("plainsby"), 0, 1, "test")
    monkeypatch.setattr(foundry.cities, "_DETOUR", 0)  # so that every walk is too long
    with pytest.raises(SftrlError, match="only 0 routes, not 2"):
        city_routes(city("plainsby"), 0, 2)


# --- the data in data/cities ---------------------------------------------------------------------
@every_city
def test_city_in_the_data_is_the_one_that_its_recipe_makes(name):
    made, kept = make(name), city(name)
    assert cities.as_json(made) == cities.as_json(kept)
    assert list(made.graph.edges(data=True)) == list(kept.graph.edges(data=True))


def test_city_survives_json():
    whole = json.loads(json.dumps(cities.as_json(city("canalonga"))))
    assert cities.as_json(from_json(whole)) == cities.as_json(city("canalonga"))


def test_cities_are_listed_with_the_training_city_first():
    assert names() == tuple(CITIES) and names()[0] == TRAINING_CITY


def test_data_set_of_other_cities_is_what_the_generator_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(foundry.cities, "DATASETS", {"other": DATASETS["other"]})
    sums = write(tmp_path / "made")
    assert sums == {"other": json.loads((FOLDER / "checksums.json").read_text())["other"]}
    for file in ("cities.json", "other/route_infos.json"):
        assert (tmp_path / "made" / file).read_bytes() == (FOLDER / file).read_bytes()


@pytest.mark.slow
def test_data_sets_of_the_training_city_are_what_the_generator_makes(training):
    tested = city_routes(city(TRAINING_CITY), "unseen", 400, "unseen")
    assert generated("train").routes == tuple(training)
    assert generated("unseen").routes == tuple(tested)


@pytest.mark.parametrize("name", DATASETS)
def test_checksum_holds(name):
    assert content_hash(FOLDER / name) == json.loads((FOLDER / "checksums.json").read_text())[name]


@pytest.mark.parametrize("name, least", [("train", 1_000), ("unseen", 200), ("other", 200)])
def test_data_set_is_read_by_the_loader_without_a_problem(name, least):
    found = load_routes(FOLDER / name)
    assert found.problems == () and len(found.routes) == found.found >= least
    towns = {city_of(route.start).name for route in found.routes}
    assert towns == ({TRAINING_CITY} if name != "other" else set(CITIES) - {TRAINING_CITY})
    assert generated(name).routes == found.routes and generated(name).generated


def test_changed_data_set_is_refused_by_its_name(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "cities")
    file = tmp_path / "cities" / "other" / "route_infos.json"
    file.write_text(file.read_text().replace("Turn left", "Turn right", 1))
    monkeypatch.setattr(cities, "FOLDER", tmp_path / "cities")
    with pytest.raises(SftrlError, match="other has changed.*restore"):
        generated.__wrapped__("other")


def test_data_set_that_is_written_already_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(foundry.cities, "DATASETS", {"other": (("plainsby",), None, 3)})
    write(tmp_path)
    before = (tmp_path / "other" / "route_infos.json").read_bytes()
    monkeypatch.setattr(foundry.cities, "DATASETS", {"other": (("trigonby",), None, 3)})
    with pytest.raises(SftrlError, match="cannot write"):
        write(tmp_path)
    assert (tmp_path / "other" / "route_infos.json").read_bytes() == before


def test_routes_in_a_place_where_nothing_can_be_written_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(foundry.cities, "DATASETS", {"other": (("plainsby",), None, 3)})
    (tmp_path / "other").write_text("a file")
    with pytest.raises(SftrlError, match="cannot write"):
        write(tmp_path)


def test_city_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cities, "FOLDER", tmp_path)
    with pytest.raises(SftrlError, match="cities.json.*restore"):
        cities._all.__wrapped__()

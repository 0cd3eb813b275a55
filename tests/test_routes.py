"""Data sets in the released shape: what is read, what is refused, and that nothing is executed."""

import copy
import io
import json
import math
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foundry import released
from foundry.released import write_routes
from sftrl_lib import SftrlError
from sftrl_lib.cli import main
from worlds import panoramas, routes
from worlds.panoramas import Panoramas, distance, load_panoramas, street_view
from worlds.routes import (
    COMPASS,
    SECTORS,
    TURNS,
    Milestone,
    Route,
    compass_word,
    load_routes,
    sector,
    turn_word,
)  # fmt: skip

START, CORNER, END = [40.0, -40.0], [40.001, -40.0], [40.001, -39.999]
BLOCKS = """
{
"intersection_idx": "1",
"landmarks": "Old Mill is on your left front",
"distance": "111 meters",
"human_heading": "350",
"to_next_intersection_heading": "0 (north)",
}

{
"intersection_idx": "2",
"landmarks": "The destination Blue Cafe is on your right",
"distance": "85 meters",
"human_heading": "0",
"to_next_intersection_heading": "90 (east)",
}
"""
ROUTE = {
    "start_place": {"name": "Red Inn", "geocode": START, "relocated_geocode": START},
    "dest_place": {"name": "Blue Cafe", "geocode": END, "relocated_geocode": END},
    "route_results": {"geocode_list": [CORNER, END], "landmark_list": [None]},
    "init_heading": 350,
    "milestone_info": BLOCKS,
}
READ = Route(
    0, (40.0, -40.0), ((40.001, -40.0), (40.001, -39.999)),
    (Milestone(0, 350, 111, "Old Mill", "left front"), Milestone(90, 0, 85, "Blue Cafe", "right")),
    350, "Blue Cafe", "Red Inn",
)  # fmt: skip


def folder_of(tmp_path, *listed) -> Path:
    (tmp_path / "route_infos.json").write_text(json.dumps([listed, 3]), encoding="utf-8")
    return tmp_path


def changed(path: str, value=None) -> dict:
    """ROUTE with another value at a path such as "start_place.name"; None takes the key out."""
    route = copy.deepcopy(ROUTE)
    *way, last = path.split(".")
    place = route
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return route


def with_line(old: str, new: str) -> dict:
    assert old in BLOCKS
    return changed("milestone_info", BLOCKS.replace(old, new, 1))


# --- words ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "before, after, word",
    [(0, 0, "slightly left"), (10, 11, "slightly right"), (0, 45, "slightly right"),
     (0, 46, "right"), (45, 0, "slightly left"), (46, 0, "left"), (350, 80, "right"),
     (80, 350, "left"), (350, 10, "slightly right"), (0, 180, "left"), (180, 0, "left")],
)  # fmt: skip
def test_turn_word_goes_by_the_change_of_heading(before, after, word):
    assert turn_word(before, after) == word


def test_turn_word_without_wrap_forgets_that_360_degrees_are_0():
    assert [turn_word(350, 80, wrap=False), turn_word(10, 350, wrap=False)] == ["left", "right"]
    assert turn_word(0, 45, wrap=False) == "slightly right"


@given(st.integers(0, 359), st.integers(0, 359), st.integers(-3, 3), st.integers(-3, 3))
def test_turn_word_is_the_same_after_full_turns(before, after, m, n):
    assert turn_word(before + 360 * m, after + 360 * n) == turn_word(before, after)
    assert turn_word(before, after) in TURNS


def test_compass_words_and_sectors_are_45_degrees_wide():
    assert [compass_word(45 * i) for i in range(8)] == list(COMPASS)
    assert [compass_word(h) for h in (22, 23, 337, 338, 359)] == [
        "north", "northeast", "northwest", "north", "north",
    ]  # fmt: skip
    assert [sector(100 + 45 * i, 100) for i in range(8)] == list(SECTORS)
    assert sector(10, 350) == "front" and sector(350, 40) == "left front"


# --- what is read ---------------------------------------------------------------------------------
def test_route_is_read_as_it_stands(tmp_path):
    found = load_routes(folder_of(tmp_path, ROUTE))
    assert (found.routes, found.problems, found.found) == ((READ,), (), 1)


@pytest.mark.parametrize(
    "route",
    [changed("dest_place"), changed("start_place.name"), changed("start_place.name", 7),
     changed("start_place.name", "\ud800"), changed("route_results.landmark_list"),
     changed("route_results.landmark_list", "none"), with_line('"intersection_idx": "2",\n', ""),
     with_line('"distance": "85 meters",\n', ""), with_line('"human_heading": "0",\n', ""),
     with_line('"human_heading": "0",', '"human_heading": "0"'), with_line("90 (east)", "90"),
     with_line("90 (east)", " 90(east) "), with_line("\n}\n", "\n},\n"),
     changed("milestone_info", BLOCKS.replace("\n", "\r\n")), with_line("85 meters", "85 m")],
)  # fmt: skip
def test_what_no_text_needs_may_be_missing(tmp_path, route):
    found = load_routes(folder_of(tmp_path, route))
    assert found.problems == ()
    assert [(r.points, r.milestones) for r in found.routes] == [(READ.points, READ.milestones)]


@pytest.mark.parametrize("line", ['"landmarks": "No landmark nearby",\n', '"landmarks": "",\n', ""])
def test_point_without_a_landmark(tmp_path, line):
    route = with_line('"landmarks": "Old Mill is on your left front",\n', line)
    (read,) = load_routes(folder_of(tmp_path, route)).routes
    assert (read.milestones[0].landmark, read.milestones[0].side) == (None, None)


NAMES = [
    'a "quoted" name', 'ends with "', '",', "{", "}", "{}", "{ curly }, ", '"distance": "9 m",',
    "Café Ünïcode 北京 🍜", "is on your left", "x is on your right", "The destination y", " ", "\t",
    "No landmark nearby", "a\u2028b", "a\x0bb\rc", "\\n", "%s {0}", "<b>&amp;</b>", "a" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_name_may_hold_any_character_of_a_line(tmp_path, name):
    route = changed("milestone_info", BLOCKS.replace("Old Mill", name).replace("Blue Cafe", name))
    found = load_routes(folder_of(tmp_path, route))
    assert [s.landmark for s in found.routes[0].milestones] == [name, name]
    assert found.problems == () and found.routes[0].destination == name


def test_heading_zero_is_drawn_once_for_each_route(tmp_path):
    route = changed("init_heading", 0)
    read, again = (load_routes(folder_of(tmp_path, route, route)) for _ in range(2))
    first, second = read.routes, again.routes
    assert (
        read.problems == () and first == second and first[0].init_heading != first[1].init_heading
    )
    assert all(r.milestones[0].heading_before == r.init_heading for r in first)


def test_compass_word_wins_where_the_degrees_were_rounded_down(tmp_path):
    route = with_line("90 (east)", "67 (east)")  # 67.6 degrees, cut off
    assert load_routes(folder_of(tmp_path, route)).routes[0].milestones[1].heading == 68


def test_contradicting_human_heading_is_reported_and_the_chain_followed(tmp_path):
    route = with_line('"human_heading": "0"', '"human_heading": "7"')
    found = load_routes(folder_of(tmp_path, route))
    assert found.routes == (READ,)
    assert [p.field for p in found.problems] == ["milestone_info, block 2, human_heading"]


# --- what is refused ------------------------------------------------------------------------------
BAD_POINTS = [[91, 0], [0, 181], [math.nan, 0], [0, -math.inf], [10**400, 0], ["40", "-40"],
              [True, False], [40], [40, -40, 0], None, {}, "40,-40", [[40], -40]]  # fmt: skip
BLOCK = "milestone_info, block 2, "


@pytest.mark.parametrize(
    "route, field",
    [(None, "start_place.relocated_geocode"), (7, "start_place.relocated_geocode"),
     (changed("start_place"), "start_place.relocated_geocode"),
     (changed("start_place.relocated_geocode"), "start_place.relocated_geocode"),
     (changed("route_results"), "route_results.geocode_list"),
     (changed("route_results.geocode_list"), "route_results.geocode_list"),
     (changed("route_results.geocode_list", []), "route_results.geocode_list"),
     (changed("route_results.geocode_list", [END] * 201), "route_results.geocode_list"),
     (changed("init_heading"), "init_heading"), (changed("init_heading", "0"), "init_heading"),
     (changed("init_heading", -1), "init_heading"), (changed("init_heading", 361), "init_heading"),
     (changed("init_heading", 90.5), "init_heading"),
     (changed("init_heading", math.nan), "init_heading"),
     (changed("milestone_info"), "milestone_info"),
     (changed("milestone_info", []), "milestone_info"),
     (changed("milestone_info", ""), "milestone_info"),
     (changed("milestone_info", BLOCKS.split("\n\n")[0]), "milestone_info"),
     (changed("milestone_info", BLOCKS + BLOCKS), "milestone_info"),
     (changed("milestone_info", BLOCKS.strip().removesuffix("}")), "milestone_info"),
     (with_line("Old Mill", "Old \ud800 Mill"), "milestone_info"),
     (with_line("Old Mill", "Old\nMill"), "milestone_info, line 4"),
     (with_line("}\n", "}\nand so on\n"), "milestone_info, line 9"),
     (with_line('front",\n', 'front",\n"landmarks": "Mill is on your left",\n'),
      "milestone_info, line 5"),
     (with_line("}\n\n{", "\n"), "milestone_info, line 10"),
     (with_line('idx": "2"', 'idx": "3"'), BLOCK + "intersection_idx"),
     (with_line('"human_heading": "0"', '"human_heading": "ahead"'), BLOCK + "human_heading"),
     (with_line("90 (east)", "east"), BLOCK + "to_next_intersection_heading"),
     (with_line("90 (east)", "90 (south)"), BLOCK + "to_next_intersection_heading"),
     (with_line("90 (east)", "450 (east)"), BLOCK + "to_next_intersection_heading"),
     (with_line('"to_next_intersection_heading": "90 (east)",\n', ""),
      BLOCK + "to_next_intersection_heading"),
     (with_line("85 meters", "around the corner"), BLOCK + "distance"),
     (with_line("85 meters", "-85 meters"), BLOCK + "distance"),
     (with_line("85 meters", "9" * 5_000 + " meters"), BLOCK + "distance"),
     (with_line("on your right", "on your wrong"), BLOCK + "landmarks"),
     (with_line("The destination Blue Cafe is", "is"), BLOCK + "landmarks"),
     (with_line("The destination Blue Cafe is on your right", "No landmark nearby"),
      BLOCK + "landmarks"),
     *[(changed("start_place.relocated_geocode", pair), "start_place.relocated_geocode")
       for pair in BAD_POINTS if pair],
     *[(changed("route_results.geocode_list", [CORNER, pair]), "route_results.geocode_list[1]")
       for pair in BAD_POINTS]],
)  # fmt: skip
def test_damaged_route_is_refused_as_a_whole_and_named(tmp_path, route, field):
    found = load_routes(folder_of(tmp_path, ROUTE, route, ROUTE))
    assert [(p.route, p.field) for p in found.problems] == [(1, field)]
    assert [r.index for r in found.routes] == [0, 2] and found.found == 3
    assert len(found.problems[0].what) < 150


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{", b"[[], 3", b"[]", b"[[]]", b"[{}, 3]", b"{}", b"null", b"\xff\xfe[[],3]",
     b"[" * 1_000_000, b'{"a":' * 200_000, b"9" * 5_000, b"[[], 3]" + b" " * (1 << 26)],
    ids=lambda data: str(data)[:12],
)  # fmt: skip
def test_unreadable_file_is_one_sentence_that_names_it(tmp_path, data):
    if data is not None:
        (tmp_path / "route_infos.json").write_bytes(data)
    with pytest.raises(SftrlError) as refused:
        load_routes(tmp_path)
    said = str(refused.value)
    assert str(tmp_path / "route_infos.json") in said and said.endswith(".")
    assert "\n" not in said and len(said) < 500


def test_too_many_routes_are_refused(tmp_path):
    with pytest.raises(SftrlError, match="100,001 routes"):
        load_routes(folder_of(tmp_path, *[None] * 100_001))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PATHS = ("start_place", "start_place.relocated_geocode", "start_place.name", "route_results",
         "route_results.geocode_list", "init_heading", "milestone_info")  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), value=anything.filter(lambda value: value is not None))
def test_any_value_anywhere_is_read_or_refused(path, value):
    read, problems = routes.read_route(5, changed(path, value))
    assert (read is None) == bool(problems) and all(p.route == 5 for p in problems)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_of_the_blocks_is_read_or_refused(data):
    cut = data.draw(st.integers(0, len(BLOCKS)))
    end = data.draw(st.integers(cut, min(cut + 20, len(BLOCKS))))
    put = data.draw(st.text('{}",:\n 0189abcdeinorstuy()', max_size=12))
    read, problems = routes.read_route(
        0, changed("milestone_info", BLOCKS[:cut] + put + BLOCKS[end:])
    )
    if read is None:
        assert problems[0].field.startswith("milestone_info")
    else:
        assert len(read.milestones) == 2 and read.milestones[1].side in SECTORS


# --- writing --------------------------------------------------------------------------------------
names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)
names |= st.sampled_from(NAMES)
points = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
seen = st.none() | st.tuples(names, st.sampled_from(SECTORS))
legs = st.tuples(st.integers(0, 359), st.integers(0, 999_999), seen, points)


@st.composite
def some_routes(draw) -> list[Route]:
    made = []
    for index in range(draw(st.integers(0, 3))):
        heading = init_heading = draw(st.integers(0, 359))
        stones, places = [], []
        walk = draw(st.lists(legs, min_size=1, max_size=4))
        for i, (bearing, length, mark, place) in enumerate(walk):
            if mark is None and i == len(walk) - 1:
                mark = draw(st.tuples(names, st.sampled_from(SECTORS)))
            stones.append(Milestone(bearing, heading, length, *(mark or (None, None))))
            places.append(place)
            heading = bearing
        start, origin = draw(points), draw(names | st.just(""))
        ends = stones[-1].landmark, origin
        made.append(Route(index, start, tuple(places), tuple(stones), init_heading, *ends))
    return made


@settings(max_examples=60, deadline=None)
@given(
    listed=some_routes(),
    where=st.dictionaries(points, st.from_regex("[A-Z][a-z]{3}", fullmatch=True)),
)
def test_what_is_written_reads_back_the_same(tmp_path_factory, listed, where):
    folder = tmp_path_factory.mktemp("routes") / "set"
    write_routes(folder, listed, panoramas=where)
    found = load_routes(folder)
    assert found.routes == tuple(listed) and found.panoramas.ids == where
    assert {p.field for p in found.problems} == ({"street_views"} if where else set())


def but(route: Route, i: int = 0, **changes) -> Route:
    stones = [Milestone(**vars(stone)) for stone in route.milestones]
    stones[i] = Milestone(**vars(stones[i]) | changes)
    return Route(**vars(route) | {"milestones": tuple(stones)})


@pytest.mark.parametrize(
    "route",
    [but(READ, landmark="two\nlines"), but(READ, landmark="half \ud800"), but(READ, landmark=""),
     but(READ, side="above"), but(READ, distance=-1), but(READ, heading=360),
     but(READ, 1, heading_before=1), but(READ, 1, landmark=None, side=None),
     Route(**vars(READ) | {"points": READ.points[:1]}), Route(**vars(READ) | {"init_heading": 361}),
     Route(**vars(READ) | {"start": (math.nan, 0.0)}), Route(**vars(READ) | {"destination": "X"})],
)  # fmt: skip
def test_route_that_would_not_read_back_is_not_written(tmp_path, route):
    with pytest.raises(SftrlError, match="route 1 does not fit"):
        write_routes(tmp_path / "set", [READ, route])
    assert list(tmp_path.iterdir()) == []


def test_released_keys_are_all_written(tmp_path):
    write_routes(tmp_path / "set", [READ], places={"Old Mill": (40.0011, -40.0002)})
    (route,), cursor = json.loads((tmp_path / "set" / "route_infos.json").read_text())
    assert cursor == 1 and set(route) == set(ROUTE) | {"instruction"}
    assert route["route_results"].keys() == {
        "geocode_list", "landmark_list", "distance_list", "time_list", "polyline", "instructions",
        "time", "distance", "n_landmarks",
    }  # fmt: skip
    assert route["milestone_info"].split() == BLOCKS.split()
    assert route["route_results"]["landmark_list"][0]["geocode"] == [40.0011, -40.0002]
    assert route["route_results"]["distance"] == 111 + 85


def test_killed_writer_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    if not (child := os.fork()):  # is killed when the routes are written, but not the mapping
        monkeypatch.setattr(released.pickle, "dumps", lambda _: os._exit(9))
        try:
            write_routes(tmp_path / "set", [READ], panoramas={})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".set.") and left[0].endswith(".tmp")
    write_routes(tmp_path / "set", [READ])
    assert load_routes(tmp_path / "set").routes == (READ,)


def test_interrupted_writer_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(released.pickle, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_routes(tmp_path / "set", [READ], panoramas={})
    assert list(tmp_path.iterdir()) == []


def test_folder_in_use_is_not_touched(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("kept")
    with pytest.raises(SftrlError, match="name a new folder"):
        write_routes(tmp_path / "set", [READ])
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "mine"]


# --- pickles --------------------------------------------------------------------------------------
class Calls:
    """A pickle of this runs a command when it is loaded by pickle.load."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def nested(depth: int) -> bytes:
    """A small pickle of a dict whose key takes 2**depth steps to hash."""
    twice = b"h\x00h\x00\x86q\x00"  # get 0, get 0, pair, put 0
    return b"\x80\x02}K\x01q\x00" + twice * depth + b"X\x01\x00\x00\x00as."


HOSTILE = [
    b"", b"plain text", b"\x80\x04.", pickle.dumps([(40.0, -40.0), "a"]), pickle.dumps({"a": 1}),
    pickle.dumps({(40.0, -40.0): 7}), pickle.dumps({(95.0, 0.0): "a"}),
    pickle.dumps({(math.nan, 0.0): "a"}), pickle.dumps({(1.0, 2.0, 3.0): "a"}),
    pickle.dumps({(1.0, 2.0): "../../etc/passwd"}), pickle.dumps({(1.0, 2.0): ".hidden"}),
    pickle.dumps({(1.0, 2.0): "a\n"}), pickle.dumps({(1.0, 2.0): ""}),
    pickle.dumps({(1.0, 2.0): {(1.0, 2.0): "a"}}), pickle.dumps({(1.0, 2.0): "a"})[:-3],
    pickle.dumps({(np.float64(1), np.float64(2)): "a"}), pickle.dumps(np.zeros(3)),
    pickle.dumps({(10**400, 1.0): "a"}), pickle.dumps(len), b"cos\nsystem\n(S'true'\ntR.",
    b"\x80\x02}r\x00\x00\x00\x02.",  # a memo of half a gigabyte
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.",  # frame of all the memory there is
    b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", b"}q\x00h\x05.", b"(" * 100_000,
    nested(60),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: str(data[:20]))
def test_pickle_of_anything_else_is_refused_quickly(tmp_path, data):
    (tmp_path / "gps_pano_mapping.pkl").write_bytes(data)
    start = time.process_time()
    with pytest.raises(SftrlError, match="nothing else is read from a pickle"):
        load_routes(folder_of(tmp_path, ROUTE))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {(1.0, 2.0): c}, lambda c: {c: "a"}])
def test_pickle_that_runs_code_is_refused_and_nothing_is_run(tmp_path, wrap, protocol):
    data = pickle.dumps(wrap(Calls(tmp_path / "run")), protocol)
    (tmp_path / "gps_pano_mapping.pkl").write_bytes(data)
    with pytest.raises(SftrlError, match="gps_pano_mapping.pkl"):
        load_routes(folder_of(tmp_path, ROUTE))
    assert not (tmp_path / "run").exists()


def test_unpickler_itself_finds_no_class():
    with pytest.raises(pickle.UnpicklingError, match=r"asks for (posix|nt)\.system"):
        panoramas._Unpickler(io.BytesIO(pickle.dumps(os.system))).load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("count", [0, 1, 2, 2_500])
def test_mapping_of_any_protocol_is_read(tmp_path, protocol, count):
    mapping = {(40 + i / 1e4, -40.0): f"id-{i % 1_000}" for i in range(count)}
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(mapping, protocol))
    assert load_panoramas(tmp_path / "map.pkl").ids == mapping


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_of_a_pickle_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    protocol = data.draw(st.integers(0, pickle.HIGHEST_PROTOCOL))
    whole = pickle.dumps({(40.0, -40.0): "abc", (41.5, 7.25): "abc", (1.0, 2.0): "d"}, protocol)
    cut = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(cut, min(cut + 8, len(whole))))
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=8)) + whole[end:])
    try:
        found = load_panoramas(path).ids
    except SftrlError:
        return
    assert all(type(name) is str and abs(lat) <= 90 for (lat, _), name in found.items())


# --- panoramas ------------------------------------------------------------------------------------
def test_nearest_panorama_is_within_20_metres():
    places = Panoramas({(40.0, -40.0): "a", (40.001, -40.0): "b"})
    assert places.nearest((40.00017, -40.0)) == (40.0, -40.0)  # 19 m
    assert places.nearest((40.00019, -40.0)) is None  # 21 m
    assert places.nearest((40.0009, -40.0)) == (40.001, -40.0)
    assert Panoramas().nearest((40.0, -40.0)) is None


def test_distance_is_in_metres():
    assert distance((0.0, 0.0), (0.001, 0.0)) == pytest.approx(111.19, abs=0.01)
    assert distance((60.0, 10.0), (60.0, 10.001)) == pytest.approx(55.6, abs=0.01)
    assert distance((0.0, 180.0), (0.0, -180.0)) == pytest.approx(0, abs=1e-6)


def test_missing_panoramas_are_reported_and_the_routes_stay(tmp_path):
    picture = Image.new("RGB", (64, 32)), 0.0
    write_routes(tmp_path / "set", [READ], pictures={"a": picture},
                 panoramas={READ.points[0]: "a", (0.0, 0.0): "gone"})  # fmt: skip
    found = load_routes(tmp_path / "set")
    assert found.routes == (READ,)
    assert [(p.route, p.field) for p in found.problems] == [
        (None, "street_views/gone.jpg"), (None, "street_views/gone.metadata.json"),
        (0, "start_place.relocated_geocode"), (0, "route_results.geocode_list[1]"),
    ]  # fmt: skip


def panorama(height: int = 180) -> np.ndarray:
    """Red is half the angle from the left edge, green the angle below the zenith, in degrees."""
    rows, columns = np.mgrid[:height, : 2 * height]
    angles = [columns * 180 / height / 2, rows * 180 / height, np.full_like(rows, 255)]
    return np.stack(angles, -1).astype(np.uint8)


def stored(tmp_path, pixels=None, rotation: object = 0.0) -> Path:
    (tmp_path / "street_views").mkdir(exist_ok=True)
    picture = Image.fromarray(panorama() if pixels is None else pixels)
    picture.save(tmp_path / "street_views" / "p.jpg", quality=100, subsampling=0)
    (tmp_path / "street_views" / "p.metadata.json").write_text(json.dumps({"rotation": rotation}))
    return tmp_path


def azimuth(picture: Image.Image, x: int, y: int) -> float:
    return picture.getpixel((x, y))[0] * 2


def middles(picture: Image.Image) -> list[float]:
    near, far = picture.width // 4, 3 * picture.width // 4
    return [azimuth(picture, x, y) for y in (near, far) for x in (near, far)]


@pytest.mark.parametrize("rotation, heading", [(0, 45), (100, 20), (300, 350), (-60, 70)])
def test_views_are_front_right_back_left_of_the_heading(tmp_path, rotation, heading):
    picture = street_view(stored(tmp_path, rotation=rotation), "p", heading, size=202)
    expected = [(rotation + heading + view) % 360 for view in (0, 90, 180, 270)]
    assert middles(picture) == pytest.approx(expected, abs=6)


def test_view_is_a_perspective_of_90_degrees(tmp_path):
    picture = street_view(stored(tmp_path), "p", 180, size=402)  # a view has 200 pixels
    for angle in (-40, -22, 24, 43):
        x = round(99.5 + 100 * math.tan(math.radians(angle)))
        assert azimuth(picture, x, 100) == pytest.approx(180 + angle, abs=2.5)
        assert picture.getpixel((100, x))[1] == pytest.approx(90 + angle, abs=2.5)  # up and down


def test_thin_black_gap_parts_the_views(tmp_path):
    pixels = np.asarray(street_view(stored(tmp_path), "p", 0, size=100))
    assert pixels.shape == (100, 100, 3)
    assert (pixels[49:51] == 0).all() and (pixels[:, 49:51] == 0).all()
    assert (np.delete(np.delete(pixels, [49, 50], 0), [49, 50], 1)[..., 2] > 200).all()


def test_huge_picture_is_decoded_at_a_fraction(tmp_path):
    folder = stored(tmp_path, np.full((4_100, 8_200, 3), 200, np.uint8))
    pixels, _ = panoramas._panorama(folder, "p")
    assert pixels.shape == (2_050, 4_100, 3)


def sized(data: bytes, width: int, height: int) -> bytes:
    """A JPEG that claims another size."""
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


@pytest.mark.parametrize("damage", [
    lambda jpg, meta: jpg.unlink(), lambda jpg, meta: meta.unlink(),
    lambda jpg, meta: jpg.write_bytes(jpg.read_bytes()[:400]),
    lambda jpg, meta: jpg.write_bytes(sized(jpg.read_bytes(), 65_500, 32_750)),
    lambda jpg, meta: jpg.write_bytes(sized(jpg.read_bytes(), 14_000, 7_000)),
    lambda jpg, meta: jpg.write_bytes(b"GIF89a"), lambda jpg, meta: jpg.write_bytes(b""),
    lambda jpg, meta: Image.new("RGB", (64, 64)).save(jpg),
    lambda jpg, meta: Image.new("RGB", (64, 32)).save(jpg, "PNG"),
    *[lambda jpg, meta, text=text: meta.write_text(text) for text in (
        "", "{}", "[]", "3", '{"rotation": NaN}', '{"rotation": "north"}', '{"rotation": null}',
        '{"rotation": 1' + "0" * 400 + "}", "[" * 100_000)],
])  # fmt: skip
def test_damaged_panorama_is_refused_quickly(tmp_path, damage):
    views = stored(tmp_path) / "street_views"
    damage(views / "p.jpg", views / "p.metadata.json")
    start = time.process_time()
    with pytest.raises(SftrlError, match="'p'.* cannot be used"):
        street_view(tmp_path, "p", 0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("pano", ["../p", "/p", "", "a\0b", ".", "../street_views/p", "ü", "p\n"])
def test_panorama_id_is_no_path(tmp_path, pano):
    for file in (stored(tmp_path) / "street_views").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SftrlError, match="no such name"):
        street_view(tmp_path, pano, 0)


# --- the command ----------------------------------------------------------------------------------
def test_command_counts_what_a_folder_holds(capsys, tmp_path):
    bare = with_line("Old Mill is on your left front", "No landmark nearby")
    folder_of(tmp_path, ROUTE, bare, changed("init_heading"))
    assert main(["routes", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 routes, 2 usable, 3 landmarks, 4 turns", "route 2: init_heading is missing",
    ]  # fmt: skip
    assert main(["routes", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "routes": 3, "usable": 2, "landmarks": 3, "turns": 4,
        "problems": [{"route": 2, "field": "init_heading", "what": "is missing"}],
    }  # fmt: skip


def test_command_lists_twenty_problems_and_counts_the_others(capsys, tmp_path):
    assert main(["routes", str(folder_of(tmp_path, ROUTE, *[None] * 27))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22 and lines[-1] == "and 7 more problems; --json lists them all"


def test_command_fails_where_no_route_is_usable(capsys, tmp_path):
    assert main(["routes", str(folder_of(tmp_path, None))]) == 1
    assert "0 usable" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_command_refuses_what_it_cannot_read_in_one_line(capsys, tmp_path, flags):
    (tmp_path / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(Calls(tmp_path / "run")))
    for folder in (tmp_path / "nowhere", folder_of(tmp_path, ROUTE)):
        assert main(["routes", str(folder), *flags]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()

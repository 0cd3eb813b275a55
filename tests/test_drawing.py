"""Street views and maps: what stands where is seen where it stands, and nowhere else."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from matplotlib.offsetbox import AnnotationBbox

from foundry.cities import city_routes
from sftrl_lib import SftrlError
from study import plots
from study.maps import city_map
from study.widgets import episode_viewer, render_episode
from worlds.cities import KINDS, TRAINING_CITY, City, Landmark, Look, city, names
from worlds.drawing import COLORS, sign, street_views, view
from worlds.rail import lay_rail

HERE = (0.0, 0.0)
PURE = Look((0, 0, 255), (0, 255, 0), (255, 0, 0), ((120, 120, 120),), (80, 80, 80))
every_city = pytest.mark.parametrize("name", names())


def away(bearing: float, metres: float) -> tuple[float, float]:
    angle = math.radians(bearing)
    return metres * math.sin(angle), metres * math.cos(angle)


def star(*bearings: float, mark: tuple | None = None, **facts) -> City:
    """Streets of 100 m that leave one crossing; `mark`: (bearing, kind) of a landmark there."""
    graph = nx.Graph()
    graph.add_node(0, x=0.0, y=0.0)
    for node, bearing in enumerate(bearings, 1):
        x, y = away(bearing, 100)
        graph.add_node(node, x=x, y=y)
        graph.add_edge(0, node, length=100.0)
    marks = {0: Landmark("Silver Oak Cafe", mark[1], away(mark[0], 25))} if mark else {}
    return City("testville", graph, marks, PURE, (0.0, 0.0), **facts)


def views(town: City, heading: float = 0, size: int = 64, at=HERE) -> list[np.ndarray]:
    """Front, right, back, left."""
    pixels = np.asarray(street_views(town, at, heading, size)).astype(int)
    side, second = (size - 2) // 2, size - (size - 2) // 2
    return [pixels[y : y + side, x : x + side] for y in (0, second) for x in (0, second)]


def changed(one: City, other: City, *given) -> list[bool]:
    pairs = zip(views(one, *given), views(other, *given), strict=True)
    return [bool((a != b).any()) for a, b in pairs]


def road(seen: np.ndarray) -> np.ndarray:
    """Where along the row just under the horizon (10 m ahead) the road is: -1 left, 1 right."""
    row = seen[len(seen) // 2 + 2]
    return 2 * np.flatnonzero(row[:, 0] > row[:, 1] + 60) / len(row) - 1


# --- streets --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arms", [(0, 180), (0, 90), (90, 180, 270), (0, 180, 270), (0, 90, 180, 270)]
)
def test_a_street_that_leaves_is_seen_in_its_view_alone(arms):
    seen = [len(road(pixels)) > 0 for pixels in views(star(*arms))]
    assert seen == [bearing in arms for bearing in (0, 90, 180, 270)]


def test_a_street_straight_ahead_is_in_the_middle_of_the_front_view():
    assert abs(road(views(star(0, 180))[0]).mean()) < 0.05


@pytest.mark.parametrize("bend", [-30, 30])
def test_a_street_that_bends_is_on_its_side_of_the_front_view(bend):
    where = road(views(star(bend, 180))[0])
    assert where.mean() * np.sign(bend) > 0.3


def test_between_crossings_walls_stand_on_both_sides():
    front, right, back, left = views(star(0, 180), at=(0, 50))
    assert len(road(front)) and len(road(back))
    for pixels in (right, left):
        middle = pixels[len(pixels) // 2]
        assert np.ptp(middle, axis=1).max() < 40  # grey: neither sky, road nor pavement


def test_water_is_seen_from_the_bridge_along_the_canal():
    town = star(0, 180, water=(((-80, 50), (80, 50)),))
    assert [wet(pixels) for pixels in views(town, 0, 64, (0, 50))] == [False, True, False, True]


def wet(seen: np.ndarray) -> bool:
    """Whether there is water straight ahead, behind the pavement."""
    return bool((seen[17, 12:19, 2] > seen[17, 12:19, 0] + 40).all())


# --- landmarks ------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", range(4))
def test_a_landmark_is_seen_on_its_side_and_nowhere_else(side):
    streets = (0, 90, 180, 270)
    town = star(*streets, mark=(90 * side + 28, "cafe"))
    assert changed(town, star(*streets)) == [i == side for i in range(4)]


@pytest.mark.parametrize("bearing", [44, 46])
def test_a_landmark_at_the_edge_is_seen_whole_and_once(bearing):
    streets = (0, 90, 180, 270)
    marked, bare = star(*streets, mark=(bearing, "hotel")), star(*streets)
    assert changed(marked, bare) == [bearing == 44, bearing == 46, False, False]
    blue = max((pixels[:, :, 2] > pixels[:, :, 0] + 150).any(0).sum() for pixels in views(marked))
    assert blue > 8


def test_a_landmark_is_in_its_half_of_the_view():
    streets = (0, 90, 180, 270)
    difference = [abs(a - b).sum(2) for a, b in zip(
        views(star(*streets, mark=(28, "bank"))), views(star(*streets)), strict=True)]  # fmt: skip
    columns = np.flatnonzero(difference[0].sum(0))
    assert columns.min() > 15 and len(columns) >= 8  # of 31


def test_a_house_hides_the_landmark_behind_it():
    streets = (0, 90, 180, 270)
    marked = star(*streets, mark=(332, "cafe"))
    assert not any(changed(marked, star(*streets), 270, 64, (60.0, 0.0)))


@every_city
def test_a_landmark_is_seen_from_its_crossing(name):
    town = city(name)
    node = list(town.landmarks)[5]
    bare = replace(town, landmarks={n: m for n, m in town.landmarks.items() if n != node})
    (x, y), (east, north) = town.xy(node), town.landmarks[node].position
    bearing = math.degrees(math.atan2(east - x, north - y))
    seen, nothing = (views(t, bearing, 64, (x, y))[0] for t in (town, bare))
    assert (abs(seen - nothing).sum(2) > 60)[:, 11:20].sum() > 40  # of 8 x 8 pixels or so


def test_every_kind_has_a_sign_of_its_own_colour():
    assert set(COLORS) == set(KINDS)
    assert min(math.dist(a, b) for a, b in combinations(COLORS.values(), 2)) > 60


def test_icons_differ_without_their_colours_at_the_tiny_size():
    def ink(kind):  # 9 pixels, as in a view of 31: how unlike the colour of the sign a pixel is
        return np.abs(np.asarray(sign(kind, 9), int) - COLORS[kind]).sum(2)[1:-1, 1:-1] > 150

    assert min((ink(a) != ink(b)).mean() for a, b in combinations(KINDS, 2)) > 0.1


def test_a_name_is_written_at_560_pixels_and_not_at_64():
    one = star(0, 180, mark=(90, "park"))
    mark = replace(one.landmarks[0], name="Golden Elm Cafe")
    other = replace(one, landmarks={0: mark})
    assert changed(one, other, 0, 560) == [False, True, False, False]
    assert not any(changed(one, other, 0, 64))


# --- cities and headings --------------------------------------------------------------------------
def test_cities_look_different():
    means = []  # colours in the middle of each
    for name in names():
        town = city(name)
        middle = np.mean([town.xy(node) for node in town.graph], 0)
        at = min(map(town.xy, town.graph), key=lambda place: math.dist(place, middle))
        means.append(np.asarray(street_views(town, at, 0)).mean((0, 1)))
    assert min(math.dist(a, b) for a, b in combinations(means, 2)) > 5


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turn_of_90_degrees_permutes_the_views(quarter):
    town = city(TRAINING_CITY)
    at = town.xy(30)
    front, right, back, left = range(4)
    order = (np.array([front, right, back, left]) + quarter) % 4
    before, after = views(town, 17, 64, at), views(town, 17 + 90 * quarter, 64, at)
    assert all((after[i] == before[order[i]]).all() for i in range(4))


def test_the_same_bytes_in_every_process():
    ask = """
import hashlib
from worlds import cities, drawing
town = cities.city("canalonga")
picture = drawing.street_views(town, town.xy(9), 77, 100)
print(hashlib.sha256(picture.tobytes()).hexdigest())
"""
    said = set()
    for seed in "12":
        options = dict(check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed})
        said.add(subprocess.run([sys.executable, "-c", ask], **options).stdout)
    assert len(said) == 1


def test_what_a_caller_paints_over_is_not_kept():
    town = star(0, 180)
    before = view(town, HERE, 0, 31).tobytes()
    view(town, HERE, 0, 31).paste((1, 2, 3), (0, 0, 31, 31))
    assert view(town, HERE, 0, 31).tobytes() == before


@pytest.mark.parametrize("size", [0, 31.0, 5000])
def test_a_size_that_no_picture_has_is_refused(size):
    with pytest.raises(SftrlError, match="size of a view .* 8 to 2,048"):
        view(star(0, 180), HERE, 0, size)


# --- the map and the viewer -----------------------------------------------------------------------
TOWN = city(TRAINING_CITY)
ROUTE = city_routes(TOWN, "map", 1)[0]
RAIL = lay_rail(ROUTE, 3, 0.5)


def test_the_map_names_the_routes_landmarks_and_says_its_legs():
    figure = city_map(TOWN, ROUTE)
    written = {text.get_text().replace("\n", " ") for text in figure.axes[0].texts}
    names = {ROUTE.origin, *(stone.landmark for stone in ROUTE.milestones)} - {None}
    assert names <= written
    assert all(name in figure.alt + figure.get_suptitle() for name in names)
    assert figure.alt.count(" m at ") == len(ROUTE.milestones)


def test_the_map_tells_right_from_wrong_by_colour_and_marker_and_word():
    tries = [[True]] * (len(RAIL) - 2) + [[False, True], [False, False]]
    figure = city_map(TOWN, ROUTE, list(zip(RAIL, tries, strict=True)))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    kinds = ("right", "right after a wrong try", "wrong")
    assert [len(lines[kind].get_xdata()) for kind in kinds] == [len(RAIL) - 2, 1, 1]
    assert len({lines[kind].get_color() for kind in kinds}) == 3
    assert len({lines[kind].get_marker() for kind in kinds}) == 3
    assert f"{len(RAIL)} (stop) wrong" in figure.alt
    assert f"{len(RAIL) - 2} of {len(RAIL)} positions right" in figure.texts[1].get_text()


def test_the_map_shows_positions_where_they_are():
    figure = city_map(TOWN, ROUTE, [(RAIL[0], [True])])
    line = next(line for line in figure.axes[0].lines if line.get_label() == "right")
    assert (line.get_xdata()[0], line.get_ydata()[0]) == pytest.approx(TOWN.position(ROUTE.start))


def test_no_icon_hides_what_the_agent_did():
    axis = city_map(TOWN, ROUTE, [(RAIL[0], [False])]).axes[0]
    icons = [mark.zorder for mark in axis.artists if isinstance(mark, AnnotationBbox)]
    marks = [line.zorder for line in axis.lines if line.get_label() in ("wrong", "start")]
    assert max(icons) < min(marks)


def test_the_map_is_the_same_bytes_twice(tmp_path):
    for folder in ("a", "b"):
        plots.save(city_map(TOWN, ROUTE), "map", tmp_path / folder)
    for name in ("map.png", "map.svg", "map.alt.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_street_view_becomes_an_image_with_its_alt_text():
    text = plots.html(street_views(TOWN, TOWN.xy(0), 0), 'a "street"')
    assert '<img class="photograph" src="data:image/png;base64,' in text
    assert 'alt="a &quot;street&quot;"' in text


POSITIONS = [
    {"split": "rule_ood", "route": 3, "position": place, "solved": place != 2, "prompt": "where?",
     "turns": ["answer"], "verdicts": [{"reward": 1.0, "reason": "solved", "message": ""}]}
    for place in (1, 2, 3)
]  # fmt: skip


def test_the_viewer_steps_through_a_route_with_a_picture_of_each_position():
    asked = []

    def picture(episode):
        asked.append(episode["position"])
        return f"<img alt='position {episode['position']}'>"

    viewer = episode_viewer(POSITIONS, picture)
    (which, _, _, on), page = viewer.children[0].children, viewer.children[1]
    assert "route 3, position 1" in page.value and "<img alt='position 1'>" in page.value
    on.click()
    assert "<img alt='position 2'>" in page.value
    assert asked == [1, 2]  # drawn when shown, not before
    which.value = "failed"
    assert "<img alt='position 2'>" in page.value


def test_an_episode_without_a_picture_has_no_image():
    assert "<img" not in render_episode(POSITIONS[0])

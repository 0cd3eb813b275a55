"""How fast the environments are on one core: GeneralPoints' deals, verdicts and solutions, and
navigation's routes, steps and street views, a second.

Run `python benchmarks/environment.py` (a minute). Writes data/benchmarks/environment.json. Where
reasoning-gym can be imported (`pip install reasoning-gym`), its Countdown with four numbers stands
beside GeneralPoints. Times are of the CPU.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import gymnasium
from tqdm.auto import tqdm

from foundry.cities import city_routes
from foundry.released import write_routes
from sftrl_lib.tasks.general_points import GeneralPoints
from sftrl_lib.tasks.navigation import Navigation
from worlds import cities, deals, drawing, solver
from worlds.verifier import verify_formula

OUT = Path(__file__).parents[1] / "data" / "benchmarks" / "environment.json"
REPEATS = 5


def drawn(town: cities.City, place: cities.Position, heading: float) -> None:
    """Render one 2x2 picture that is in no cache."""
    drawing._view.cache_clear()
    drawing.street_views(town, place, heading)


def rate(do: Callable, calls: Sequence[tuple]) -> tuple[float, float]:
    """(median, best) calls a second over REPEATS passes."""
    rates = []
    for _ in range(REPEATS):
        start = time.process_time()
        for call in calls:
            do(*call)
        rates.append(len(calls) / (time.process_time() - start))
    return statistics.median(rates), max(rates)


def slowest_tenth(do: Callable, calls: Sequence[tuple]) -> tuple[float, float]:
    """(median, best) over REPEATS passes of the calls a second that nine tenths of calls reach."""
    rates = []
    for _ in range(REPEATS):
        taken = []
        for call in calls:
            start = time.process_time()
            do(*call)
            taken.append(time.process_time() - start)
        rates.append(1 / statistics.quantiles(taken, n=10)[-1])
    return statistics.median(rates), max(rates)


def cold(target: int) -> None:
    """Find all solutions of all 1,820 hands for one target, from empty caches."""
    solver.sorted_solutions.cache_clear()
    solver._table.cache_clear()
    for values in combinations_with_replacement(deals.RANKS, 4):
        solver.solutions(values, target)


def answers(task: GeneralPoints, count: int) -> list[tuple[deals.Deal, str]]:
    """Deals with answers of every kind, a fifth each: gold and the four ways to fail."""
    rng, calls = random.Random(0), []
    for index in range(count):
        deal = task.item("train", 0, index)
        gold = task.expert(deal, rng)
        head, formula = gold.rsplit(': "', 1)
        adding = "+".join(map(str, deal.numbers))
        kinds = [gold, f'{head}: "{adding}"}}', f'{head}: "{adding}+1"}}', f'{head}: "{adding}+"}}']
        calls.append((deal, (*kinds, head)[index % 5]))
    return calls


def routes(name: str, count: int) -> None:
    """Generate the routes of a city and write them in the released files."""
    with tempfile.TemporaryDirectory() as folder:
        write_routes(Path(folder) / "set", city_routes(cities.city(name), 0, count))


def pictures(city: str, count: int) -> list[tuple]:
    """Places and headings on the streets of a city, each for one 2x2 picture."""
    task, town = Navigation(), cities.city(city)
    steps = [task.item("train", 0, index) for index in range(count)]
    places = [(town.position(s.position.location), s.position.heading) for s in steps]
    return [(town, *place) for place in dict.fromkeys(places)]


def walk(env: gymnasium.Env, seed: int) -> int:
    """Play an episode as the expert does; the number of its steps."""
    env.reset(seed=seed)
    task, items = env.unwrapped.task, env.unwrapped.items
    for step in items:
        env.step(task.expert(step, random.Random(0)))
    return len(items)


def peers() -> list[tuple]:
    """reasoning-gym's Countdown with four numbers: items and scores of their right answers."""
    try:
        import reasoning_gym
    except ImportError:
        return []
    game = reasoning_gym.create_dataset("countdown", seed=0, min_numbers=4, max_numbers=4)
    known = [(game[i]["metadata"]["expression"], game[i]) for i in range(100)]
    name = f"reasoning-gym {reasoning_gym.__version__}, Countdown"
    return [
        (f"{name}: items", lambda: rate(game.__getitem__, [(i,) for i in range(100)]), 1, None),
        (f"{name}: scores", lambda: rate(game.score_answer, known), 1, None),
    ]


def main() -> None:
    task = GeneralPoints()
    calls = answers(task, 10_000)
    read = [(deals.read_answer(text), deal.numbers) for deal, text in calls]
    formulas = [(answer[2], numbers) for answer, numbers in read if answer]
    jobs = [("all solutions, cold cache", lambda: rate(cold, [(24,)]), 1820, None)]
    for split in task.splits:
        items = [(split, 1, index) for index in range(4_000)]
        jobs.append((f"deals, {split}", lambda items=items: rate(task.item, items), 1, 5_000))
    jobs += [
        ("verdicts, whole answers", lambda: rate(task.verify, calls), 1, 20_000),
        ("verdicts, formulas", lambda: rate(verify_formula, formulas), 1, 20_000),
    ]
    env = gymnasium.make("sftrl/Navigation-v0", disable_env_checker=True)
    episodes = [(env, seed) for seed in range(300)]
    steps = sum(walk(*episode) for episode in episodes) / len(episodes)
    grid = cities.TRAINING_CITY
    views = pictures(grid, 200)
    jobs += [
        ("navigation, steps", lambda: rate(walk, episodes), steps, 2_000),
        ("navigation, routes", lambda: rate(routes, [(grid, 1_000)]), 1_000, 17),
        ("street views, 2x2 at 64 pixels", lambda: rate(drawn, views), 1, 200),
        ("street views, the slowest tenth", lambda: slowest_tenth(drawn, views), 1, None),
    ]
    jobs += peers()
    rows = []
    for what, measure, factor, required in tqdm(jobs, desc="environment"):
        median, best = (round(value * factor) for value in measure())
        rows.append({"what": what, "median": median, "best": best, "required": required})
    print(f"{'a second, one core':32}{'median':>10}{'best':>10}{'required':>10}")
    for row in rows:
        print(f"{row['what']:32}{row['median']:>10,}{row['best']:>10,}{row['required'] or '':>10}")
    machine = {"python": platform.python_version(), "cpu": platform.machine(), "repeats": REPEATS}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**machine, "load": os.getloadavg()[0], "rows": rows}, indent=1)
    OUT.write_text(text + "\n")


if __name__ == "__main__":
    main()

from typing import Any

from .base import Task


def make_task(exp: Any) -> Task:
    """The task of a `config.Experiment`; SftrlError for rules or rewards that it does not know."""
    pictures = exp.task.endswith("-vl")
    if exp.task.startswith("virl"):
        from .navigation import Navigation, released

        given: dict[str, Any] = {}
        if exp.routes:  # with rails as in the paper (appendix A)
            data = released(exp.routes, exp.ood_routes)
            given = {"data": data, "straight_line_length": 5}
        return Navigation(
            exp.rule, exp.ood_rule, tries=exp.tries, scheme=exp.scheme, pictures=pictures, **given
        )
    from .general_points import GeneralPoints

    return GeneralPoints(
        exp.rule, exp.ood_rule, target=exp.target, scheme=exp.scheme, pictures=pictures,
        color=exp.color,
    )  # fmt: skip

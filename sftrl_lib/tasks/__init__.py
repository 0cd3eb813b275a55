from typing import Any

from .base import Task


def make_task(exp: Any) -> Task:
    """The task of a `config.Experiment`; SftrlError for rules or rewards that it does not know."""
    pictures = exp.task.endswith("-vl")
    options = {"scheme": exp.scheme, "feedback": exp.feedback, "pictures": pictures}
    if exp.task.startswith("virl"):
        from .navigation import Navigation, released

        if exp.routes:  # with rails as in the paper (appendix A)
            data = released(exp.routes, exp.ood_routes)
            options |= {"data": data, "straight_line_length": 5}
        return Navigation(exp.rule, exp.ood_rule, tries=exp.tries, **options)
    from .general_points import GeneralPoints

    return GeneralPoints(exp.rule, exp.ood_rule, target=exp.target, color=exp.color, **options)

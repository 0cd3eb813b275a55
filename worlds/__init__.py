"""The two worlds, without any model: cards and their formulas, cities and the routes through them.

cards   formulas, verifier, solver, hands (their pictures); answers reads what a model wrote
city    cities, routes, panoramas (the released V-IRL files), rail, drawing (street views)

A leaf: it imports nothing of this project, and no experiment, policy or setting is known here.
"""

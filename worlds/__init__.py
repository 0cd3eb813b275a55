"""The two worlds, without any model: cards and their formulas, cities and the routes through them.

cards   deals, formulas, verifier, solver, hands (their pictures), card_texts,
        authors_cards
city    walks, cities, routes, panoramas (the released V-IRL files), rail, drawing (street views),
        walk_texts, authors_walks
both    answers (reads what a model wrote), verdict, texts

It imports `commons` alone: no experiment, policy or setting is known here.
"""

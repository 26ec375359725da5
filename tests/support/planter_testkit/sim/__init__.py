"""A simulated world for the real planner and the real runtime: one seed, one history.

``loop`` is an event loop whose clock jumps to the next thing that happens; ``storage`` and ``server`` are a
nats-server, held to the real one by contract tests; ``client`` joins processes to it over a network
(``weather``) that delays, drops, repeats and reorders; ``world`` has planners, runtimes and clients in it;
``scenario`` draws what they do and what goes wrong; ``judging`` says whether the invariants hold.
"""

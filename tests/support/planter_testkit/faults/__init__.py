"""Faults on real processes: planners, runtimes and servers are killed, stopped, cut off and lied to.

Each scenario is a module with one coroutine. It drives a continuous load of sessions through ``PlanClient``,
injects its faults, waits until every session has ended, and hands all that is left in the streams to
``accounts``, which judges it. ``scenarios`` names them; ``scripts/faults.py`` runs them.
"""

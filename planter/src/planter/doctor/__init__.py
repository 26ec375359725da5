"""``planter doctor``: what a server really promises, and what stands in the way, each with cause and remedy.

``gather`` asks and never judges, the checks judge and never ask: a finding can be tested without a server.
"""

from planter.doctor.examine import CHECKS, examine
from planter.doctor.facts import Facts
from planter.doctor.findings import Durability, Finding, Level, Report
from planter.doctor.gather import gather

__all__ = ["CHECKS", "Durability", "Facts", "Finding", "Level", "Report", "examine", "gather"]

"""What is measured: graphs, and how many of each at once."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from planter_testkit.graphs import Tasks, fan, montage_like


class Workload(NamedTuple):
    """A graph, executed ``copies`` times at once."""

    name: str
    tasks: Tasks
    copies: int = 1

    @property
    def size(self) -> int:
        """Tasks of all copies."""
        return len(self.tasks) * self.copies


def chain(length: int) -> Tasks:
    """One after the other."""
    return [{"id": f"p{n}", "deps": [f"p{n - 1}"] if n else []} for n in range(length)]


DIAMOND: Tasks = [
    {"id": "a", "deps": []},
    *({"id": name, "deps": ["a"]} for name in "bcd"),
    {"id": "e", "deps": ["b", "c", "d"]},
]


def montage(size: int, graphs: Path | None) -> Tasks:
    """The real Montage workflow of a folder of graphs, or one of its shape when there is none."""
    for name in (f"montage-{size // 1000}k.json", f"montage-{size // 1000}k.json.gz"):
        if graphs is not None and (graphs / name).is_file():
            data = (graphs / name).read_bytes()
            return json.loads(gzip.decompress(data) if name.endswith(".gz") else data)["tasks"]
    return montage_like((size - 6) // 4)


def workloads(scale: float, graphs: Path | None) -> dict[str, Callable[[], Workload]]:
    """By name, made when it is needed; ``scale`` 1 is the full size."""

    def sized(count: int) -> int:
        return max(10, int(count * scale))

    return {
        "chain": lambda: Workload("chain", chain(sized(500))),
        "fan": lambda: Workload("fan", fan(sized(10_000))),
        "diamonds": lambda: Workload("diamonds", DIAMOND, sized(1_000)),
        "montage-1k": lambda: Workload("montage-1k", montage(1_000, graphs)),
        "montage-10k": lambda: Workload("montage-10k", montage(sized(10_000), graphs)),
        "fan-100k": lambda: Workload("fan-100k", fan(sized(100_000))),
        "sessions-10k": lambda: Workload("sessions-10k", chain(5), sized(10_000)),
    }

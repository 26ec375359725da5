"""Workflow graphs of our own making, shaped like the real ones."""

import random
from typing import Any

Tasks = list[dict[str, Any]]


def montage_like(width: int, seed: int = 1) -> Tasks:
    """The shape of the Montage mosaic workflow: project, difference of neighbours, fit, correct, add, shrink.

    About ``4 * width + 6`` tasks in eight levels, with joins over everything in the middle.
    """
    draw = random.Random(seed)
    tasks: Tasks = [{"id": f"project-{n}", "deps": []} for n in range(width)]
    pairs = [(n % width, (n + draw.randint(1, 5)) % width) for n in range(2 * width)]
    tasks += [
        {"id": f"diff-{n}", "deps": sorted({f"project-{a}", f"project-{b}"})}
        for n, (a, b) in enumerate(pairs)
    ]
    tasks.append({"id": "concat-fit", "deps": [f"diff-{n}" for n in range(2 * width)]})
    tasks.append({"id": "background-model", "deps": ["concat-fit"]})
    tasks += [{"id": f"background-{n}", "deps": [f"project-{n}", "background-model"]} for n in range(width)]
    tasks.append({"id": "image-table", "deps": [f"background-{n}" for n in range(width)]})
    tasks.append({"id": "add", "deps": ["image-table", *(f"background-{n}" for n in range(width))]})
    tasks.append({"id": "shrink", "deps": ["add"]})
    tasks.append({"id": "jpeg", "deps": ["shrink"]})
    return tasks


def fan(count: int) -> Tasks:
    """One task, then all but two of the others at once, then one that waits for them all."""
    middle = [f"w{n}" for n in range(count - 2)]
    wide: Tasks = [{"id": name, "deps": ["root"]} for name in middle]
    return [{"id": "root", "deps": []}, *wide, {"id": "join", "deps": middle}]


def layers(count: int, width: int = 200) -> Tasks:
    """Layer after layer of ``width`` tasks; each waits for three of the layer before."""
    return [
        {
            "id": f"l{n // width}-{n % width}",
            "deps": sorted({f"l{n // width - 1}-{(n + k) % width}" for k in range(3)}) if n >= width else [],
        }
        for n in range(count)
    ]


def as_manifest(tasks: Tasks) -> list[dict[str, Any]]:
    """A phase manifest of no-op phases."""
    return [
        {
            "kind": "Phase",
            "id": task["id"],
            "spec": {
                "description": task.get("type", "no-op"),
                "waitFor": {"phases": task["deps"]} if task["deps"] else {},
                "x-run": {"noop": {}},
            },
        }
        for task in tasks
    ]

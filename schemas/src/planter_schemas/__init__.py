"""What people write: phase manifests, read with line numbers and checked.

    loaded = load_manifest_file("site.planter.yaml")
    if loaded.manifest is None:
        print(render_problems(loaded.problems, text=loaded.texts, color=False))

Everything is imported on first use: ``import planter_schemas`` alone loads neither pydantic nor PyYAML,
so that a command line can show its help at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planter_schemas.codes import explain
    from planter_schemas.jsonschema import json_schema
    from planter_schemas.loading import Loaded, load_manifest, load_manifest_file
    from planter_schemas.manifest import Backoff, Cache, Foreach, Handler, Manifest, Phase, Run
    from planter_schemas.problems import Path, Problem
    from planter_schemas.rendering import render_line, render_problems

__all__ = [
    "Backoff",
    "Cache",
    "Foreach",
    "Handler",
    "Loaded",
    "Manifest",
    "Path",
    "Phase",
    "Problem",
    "Run",
    "explain",
    "json_schema",
    "load_manifest",
    "load_manifest_file",
    "render_line",
    "render_problems",
]

_HOME = {
    "Backoff": "manifest",
    "Cache": "manifest",
    "Foreach": "manifest",
    "Handler": "manifest",
    "Loaded": "loading",
    "Manifest": "manifest",
    "Path": "problems",
    "Phase": "manifest",
    "Problem": "problems",
    "Run": "manifest",
    "explain": "codes",
    "json_schema": "jsonschema",
    "load_manifest": "loading",
    "load_manifest_file": "loading",
    "render_line": "rendering",
    "render_problems": "rendering",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

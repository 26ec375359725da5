"""Loading the files and modules that hold a ``Runtime`` with handlers."""

import importlib
import importlib.util
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from planter_runtime.errors import ModuleUnusable
from planter_runtime.sdk import Runtime

_loading = 0


def in_progress() -> bool:
    """Whether a module is being loaded, so that its own ``runtime.run()`` must not start a second runtime."""
    return _loading > 0


def load_runtimes(module: str, workdir: Path) -> tuple[Runtime, ...]:
    """The ``Runtime`` objects of a ``.py`` file or importable module.

    Its folder is appended to ``sys.path``, at the end: a file ``queue.py`` beside it must not become ours.

    Raises:
        ModuleUnusable: it is missing, raises while it is loaded, or holds no ``Runtime``.
    """
    path = workdir / module
    is_file = module.endswith(".py")
    if is_file and not path.is_file():
        raise ModuleUnusable(module, f"there is no file {str(path)!r}")
    folder = str(path.resolve().parent if is_file else workdir)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        with _marked():
            loaded = _load_file(path) if is_file else importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ModuleUnusable(module, f"{type(error).__name__}: {error}") from error
    found = tuple(value for value in vars(loaded).values() if isinstance(value, Runtime))
    if not found:
        raise ModuleUnusable(module, "it holds no Runtime: write `runtime = Runtime()` at its top level")
    return found


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if path.stem not in sys.modules:  # a file that is called like an imported module stays unregistered
        sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _marked() -> Generator[None]:
    global _loading  # noqa: PLW0603  (one process, one loader)
    _loading += 1
    try:
        yield
    finally:
        _loading -= 1

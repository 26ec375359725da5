"""``python -P child.py CALL ANSWER``: call one function, answer through a pipe.

CALL is a descriptor to read ``{"function": "module:function", "with": {...}, "path": [...]}`` from,
ANSWER one to write ``{"result": ...}`` or ``{"error": ..., "kind": ..., "retryable": ...}`` to. Standard
library only, and little of it: this is started for every attempt.
"""

import json
import os
import sys
from typing import Any

try:
    from planter_runtime.errors import PermanentFailure, TemporaryFailure
except ModuleNotFoundError:  # a virtual environment of the phase: what functions may import of us goes there
    from importlib.util import module_from_spec, spec_from_file_location

    _spec = spec_from_file_location("planter_runtime", __file__.removesuffix("child.py") + "__init__.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["planter_runtime"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["planter_runtime"])
    from planter_runtime.errors import PermanentFailure, TemporaryFailure


class _Unusable(Exception):
    """The function cannot be called at all: another attempt would find the same."""


def main(call_fd: int, answer_fd: int) -> None:
    """Call the function and write the answer; the process ends with status 0 whenever it has answered."""
    for fd in (call_fd, answer_fd):
        os.set_inheritable(fd, False)
    with os.fdopen(call_fd, "rb") as source:
        call = json.load(source)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a log should not lag behind
    sys.path[:0] = call["path"]
    answer = json.dumps(_answer(call["function"], call["with"])).encode()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with os.fdopen(answer_fd, "wb") as sink:
        sink.write(answer)


def _answer(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        result = _call(_function(name), name, arguments)
        if result is None:
            return {}
        try:
            json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise PermanentFailure(f"`{name}` returned something that is not JSON: {error}") from None
    except _Unusable as error:
        return {"error": str(error), "kind": "refused", "retryable": False}
    except (PermanentFailure, TemporaryFailure) as error:
        return {"error": _shown(error), "retryable": isinstance(error, TemporaryFailure)}
    except BaseException as error:  # SystemExit too: the function did not return
        _print_traceback(error)
        return {"error": _shown(error)}
    return {"result": result}


def _function(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = __import__(module_name, fromlist=["_"])
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise
        hint = f"put it in the work folder ({sys.path[0]}) or install it"
        raise _Unusable(f"there is no module {missing!r} for `{name}`: {hint}") from None
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise _Unusable(f"module {module_name!r} has no function {path!r}: check the name in x-run") from None
    if not callable(found):
        raise _Unusable(f"`{name}` is a {type(found).__name__}, not a function")
    return found


def _call(function: Any, name: str, arguments: dict[str, Any]) -> Any:
    try:
        result = function(**arguments)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is None:  # raised by the call itself
            raise _Unusable(
                f"`{name}` cannot be called with these arguments: {error}; check `with`"
            ) from None
        raise
    if hasattr(result, "__await__"):
        import asyncio  # noqa: PLC0415  (100 ms that only async functions need)

        return asyncio.run(_wait_for(result))
    return result


async def _wait_for(result: Any) -> Any:
    return await result


def _shown(error: BaseException) -> str:
    text = str(error).encode("utf-8", "replace").decode()  # a name of a file may be no UTF-8
    if isinstance(error, PermanentFailure | TemporaryFailure):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _print_traceback(error: BaseException) -> None:
    """The traceback without our own frames."""
    import traceback  # noqa: PLC0415  (10 ms that only failures need)

    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""The application: routes, and every error as a problem."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from nats.errors import Error as NatsError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from planter import __version__
from planter.api import artifacts, document, pmp, sessions, system
from planter.api.problems import Problem, explained, for_status
from planter.api.site import Site
from planter_protocol.errors import ProtocolError
from planter_protocol.names import InvalidName

_ROUTERS = (pmp.router, artifacts.router, sessions.router, system.router)


def make_app(site: Site | None) -> FastAPI:
    """The application; without a site it can only describe itself."""
    app = FastAPI(
        title="Planter",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,  # its page would be loaded from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    for router in _ROUTERS:
        app.include_router(router)
    errors = (Problem, HTTPException, RequestValidationError, ProtocolError, InvalidName, NatsError)
    for kind in (*errors, TimeoutError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, on_error)

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document.complete(app)
        return app.openapi_schema

    app.openapi = described
    return app


async def on_error(request: Request, error: Exception) -> Response:
    """The problem that an error is."""
    request_id = getattr(request.state, "request_id", None)
    return _problem(request, error).response(request_id)


def _problem(request: Request, error: Exception) -> Problem:
    match error:
        case RequestValidationError():
            return _invalid(error)
        case HTTPException(status_code=405):
            allowed = ", ".join(_methods(request))
            text = f"{request.method} is not allowed on {request.url.path[:200]}"
            return Problem("method.not_allowed", text, headers={"allow": allowed})
        case HTTPException(status_code=404):
            return Problem("not_found", f"nothing is at {request.url.path[:200]}")
        case HTTPException():
            return for_status(error.status_code, str(error.detail), error.headers)
        case ClientDisconnect():
            return Problem("request.malformed", "the client has gone")
        case _:
            text = "the request could not be answered; the log says why"
            return explained(error) or Problem("planner.broken", text)


def _invalid(error: RequestValidationError) -> Problem:
    found = []
    for problem in error.errors():
        place, *names = problem["loc"]
        found.append({"in": str(place), "name": ".".join(map(str, names)), "message": problem["msg"]})
    first = found[0]
    text = f"{first['in']} parameter `{first['name']}`: {first['message']}"
    return Problem("request.invalid", text, errors=found)


def _methods(request: Request) -> list[str]:
    """The methods that the path has: the framework knows only those of its first route."""
    found: set[str] = set()
    for route in (route for router in _ROUTERS for route in router.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found | {"HEAD"} if "GET" in found else found)

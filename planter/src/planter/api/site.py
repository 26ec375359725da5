"""What the endpoints share: one object in the application's state."""

import anyio
from starlette.requests import Request

from planter.api.keeping import Keeping
from planter.api.metrics import Metrics
from planter.api.planner_side import PlannerSide


class Site:
    """The way to NATS, and our own end."""

    def __init__(self, side: PlannerSide, metrics: Metrics) -> None:
        self.side = side
        self.keeping = Keeping(side.client.js)
        self.metrics = metrics
        self.stopping = anyio.Event()
        """Set when the server ends: streams end too."""


def site_of(request: Request) -> Site:
    """The site that the request is for."""
    return request.app.state.site

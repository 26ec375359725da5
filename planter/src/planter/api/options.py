"""How the HTTP interface of one process runs."""

from pathlib import Path

import msgspec

from planter.settings import HttpAddress


class HttpOptions(msgspec.Struct, frozen=True):
    """What ``planter serve`` was told about HTTP."""

    address: HttpAddress
    nats_url: str
    token_file: Path
    """Holds the bearer token; made when it is absent."""
    token_for_all: bool = False
    """Reads need the token too; so they do on any address that is not loopback."""
    told_file: Path | None = None
    """Where to write the address that it listens on, or ``off``; for who has started this process."""
    hosts: tuple[str, ...] = ()
    """Names, beside the loopback's and the address's own, that a ``Host`` header may have."""

    @property
    def reads_need_token(self) -> bool:
        """Whether a request that changes nothing has to carry the token."""
        return self.token_for_all or not self.address.is_loopback

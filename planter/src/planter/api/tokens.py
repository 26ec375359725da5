"""The bearer token: a file that only its owner can read, made at the first start."""

import os
import secrets
import stat
from pathlib import Path

import structlog

from planter.errors import PlanterError

log = structlog.get_logger(__name__)

_LENGTH_MIN = 16
_BYTES_MAX = 4096


class TokenUnusable(PlanterError):
    """The token file cannot be read or made, or holds no token."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the HTTP token file {path} cannot be used: {reason}",
            "remove it, so that a new one is made, or name another one with PLANTER_HTTP_TOKEN_FILE",
        )


def load_token(path: Path) -> str:
    """The token in the file; a new one, with mode 0600, when there is no file.

    Raises:
        TokenUnusable: the reason, never the content, is in the text.
    """
    try:
        if not path.exists():
            _make(path)
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(_BYTES_MAX).decode("ascii").strip()
    except OSError as error:
        raise TokenUnusable(path, error.strerror or str(error)) from error
    except UnicodeDecodeError:
        raise TokenUnusable(path, "it is not ASCII text") from None
    if len(token) < _LENGTH_MIN or not token.isprintable() or " " in token:
        raise TokenUnusable(path, f"a token is one word of at least {_LENGTH_MIN} characters")
    if mode & 0o077:
        log.warning("http.token_exposed", file=str(path), mode=f"{mode:04o}", remedy=f"chmod 600 {path}")
    return token


def _make(path: Path) -> None:
    """Whole or not at all: several planners may start at once, and the first one's token counts."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)

"""Secrets that phases may use: the manifest names them, who runs the runtime says where they are.

They are read anew for each attempt, given to its work only, and masked in all that is said about it. Nothing
else of Planter ever has them: a manifest is stored, and a journal is read by many.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from planter_protocol.codec import free_json
from planter_protocol.errors import InvalidMessage
from planter_runtime.lines import CUT_MARK
from planter_runtime.outcomes import Cancelled, Completed, Failed, Outcome

BYTES_MAX = 64 * 1024
MASK = "***"
MASKED_LENGTH_MIN = 4
"""A shorter one would make a log unreadable, and is none."""
_VARIABLE = "env:"


class SecretUnusable(Exception):
    """A secret cannot be read; the message says which and why, never what it is."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"secret {name!r} cannot be read: {reason}")


class Secrets:
    """Where each secret is: the path of a file, or ``env:`` and a variable of the runtime."""

    def __init__(self, places: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> None:
        self._places = dict(places)
        self._environment = environment

    def problem(self, names: Iterable[str]) -> str | None:
        """Which of these this runtime has not; None when it has all."""
        missing = sorted({name for name in names if name not in self._places})
        if not missing:
            return None
        listed = ", ".join(missing)
        return f"no secret {listed} here: start the runtime with --secret {missing[0]}=FILE"

    def read(self, name: str) -> str:
        """The secret, without the line end that an editor leaves behind it.

        Raises:
            SecretUnusable: it is not where it should be, is empty, or is no text.
        """
        place = self._places.get(name)
        if place is None:
            raise SecretUnusable(name, "this runtime has none of that name")
        if place.startswith(_VARIABLE):
            variable = place.removeprefix(_VARIABLE)
            text = self._environment.get(variable, "")
            if not text:
                raise SecretUnusable(name, f"the runtime's variable {variable} is empty or not set")
        else:
            text = self._from_file(name, Path(place))
        if "\0" in text:
            raise SecretUnusable(name, "it holds a NUL character")
        return text

    def of_attempt(self, names: Mapping[str, str], mask: "Mask") -> dict[str, str]:
        """The secrets of an attempt by variable, given their names by variable; they are masked from now on.

        Raises:
            SecretUnusable: one cannot be read.
        """
        found: dict[str, str] = {}
        for variable, name in names.items():
            found[variable] = self.read(name)
            mask.hide(found[variable])
        return found

    @staticmethod
    def _from_file(name: str, path: Path) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(BYTES_MAX + 1)
            text = data.decode().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SecretUnusable(name, f"{path}: {reason}") from None
        if not text or len(data) > BYTES_MAX:
            reason = "is empty" if not text else f"has more than {BYTES_MAX:,} bytes"
            raise SecretUnusable(name, f"{path} {reason}")
        return text


class Mask:
    """Replaces secrets in texts; without any it changes nothing."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def hide(self, secret: str) -> None:
        """From now on; each line of it by itself, as logs are made of lines."""
        parts = {secret, *secret.splitlines()}
        parts = {part for part in parts if len(part.strip()) >= MASKED_LENGTH_MIN}
        # As JSON has them, too: many programs log nothing else.
        self._values += parts.union(
            json.dumps(part, ensure_ascii=is_ascii)[1:-1] for part in parts for is_ascii in (True, False)
        )
        self._values.sort(key=len, reverse=True)  # one may be a part of another

    def text(self, text: str) -> str:
        """The text without them; one that was cut off in the middle of a secret included."""
        text = self._replaced(text)
        if self._values and text.endswith(CUT_MARK):
            text = self._without_beginning(text.removesuffix(CUT_MARK)) + CUT_MARK
        return text

    def outcome(self, outcome: Outcome) -> Outcome:
        """What is reported: result and message."""
        if not self._values:
            return outcome
        match outcome:
            case Completed(result) if result is not msgspec.UNSET:
                return Completed(msgspec.Raw(self._json(bytes(result))))
            case Failed(failure):
                return Failed(msgspec.structs.replace(failure, message=self.text(failure.message)))
            case Completed() | Cancelled():
                return outcome

    def details(self, data: bytes | None) -> bytes | None:
        """How far the work says that it is, as JSON."""
        return None if data is None else self._json(data)

    def _json(self, data: bytes) -> bytes:
        """In strings, whatever is escaped in them, in keys, and in numbers; what is no JSON shows nothing."""
        if not self._values:
            return data
        try:
            value = free_json(data, "value")
        except InvalidMessage:
            return msgspec.json.encode(MASK)
        masked = self._masked(value)
        return data if masked == value else msgspec.json.encode(masked)

    def _masked(self, value: Any) -> Any:
        match value:
            case str():
                return self._replaced(value)
            case dict():
                return {self._replaced(key): self._masked(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            case list():
                return [self._masked(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
            case bool() | None:
                return value
            case _:
                text = msgspec.json.encode(value).decode()
                return MASK if self._replaced(text) != text else value

    def _replaced(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def _without_beginning(self, text: str) -> str:
        for value in self._values:
            for length in range(len(value) - 1, 0, -1):
                if text.endswith(value[:length]):
                    return text[:-length] + MASK
        return text

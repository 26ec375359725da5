"""Greets people, politely."""


def greet(name: str, *, excited: bool = False) -> str:
    """A greeting for a name; an empty name is refused."""
    cleaned = name.strip()
    if not cleaned:
        raise ValueError("a greeting needs a name")
    return f"Hello, {cleaned}{'!' if excited else '.'}"

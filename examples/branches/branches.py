"""What the branches run."""


def count(text: str) -> dict[str, int]:
    """The number of words."""
    return {"words": len(text.split())}

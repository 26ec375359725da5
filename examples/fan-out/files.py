"""What the fan-out runs."""

from pathlib import Path


def names(folder: str) -> dict[str, list[str]]:
    """The files of a folder."""
    return {"files": sorted(path.name for path in Path(folder).iterdir() if path.is_file())}


def size(name: str) -> int:
    """Bytes of one file."""
    return Path(name).stat().st_size


def report(files: list[str], sizes: list[int]) -> None:
    """Print what was measured."""
    for name, number in zip(files, sizes, strict=True):
        print(f"{name}: {number} bytes")
    print(f"{len(files)} files, {sum(sizes)} bytes")

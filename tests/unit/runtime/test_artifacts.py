"""Which files an attempt keeps: names, patterns, links and limits."""

import os
import threading
from pathlib import Path

import pytest

from planter_runtime.artifacts import ArtifactRefused, Artifacts, pattern_problem
from planter_runtime.testing import run_handler


def collected(folder, *patterns: str, found: Artifacts | None = None) -> Artifacts:
    found = found or Artifacts()
    base = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found.collect(folder / "none", base, patterns)
    finally:
        os.close(base)
    return found


def written(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("out/*.csv", ["out/1.csv"]),
        ("out/**/*.csv", ["out/1.csv", "out/x/2.csv", "out/x/y/3.csv"]),
        ("**/[23].csv", ["out/x/2.csv", "out/x/y/3.csv"]),
        ("out/x", ["out/x/2.csv", "out/x/y/3.csv"]),
        ("out/*", ["out/1.csv"]),
        ("**", ["a.txt", "b.txt", "out/1.csv", "out/x/2.csv", "out/x/y/3.csv"]),
        ("nothing/*", []),
    ],
)
def test_a_pattern_names_files_below_a_folder(tmp_path, pattern, names):
    written(tmp_path, "a.txt", "b.txt", "out/1.csv", "out/x/2.csv", "out/x/y/3.csv")

    found = collected(tmp_path, pattern)

    assert sorted(found.sources) == names
    assert found.unmatched == ([] if names else [pattern])
    assert [found.sources[name].read(0, 100).decode() for name in names] == names


def test_a_link_to_a_folder_is_not_followed_and_one_to_a_file_is_refused(tmp_path):
    written(tmp_path / "outside", "secret.txt")
    written(tmp_path / "work", "a.txt")
    (tmp_path / "work" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "work" / "file.txt").symlink_to(tmp_path / "outside" / "secret.txt")

    by_name = collected(tmp_path / "work", "folder/secret.txt")
    by_pattern = collected(tmp_path / "work", "**/*.txt")

    assert (by_name.sources, by_pattern.sources.keys()) == ({}, {"a.txt"})
    assert by_name.refused == [
        "artifact 'folder' cannot be kept: it is a symbolic link, and no link is followed"
    ]
    assert by_pattern.refused == [
        "artifact 'file.txt' cannot be kept: it is a symbolic link, and no link is followed"
    ]


def test_limits_are_of_all_artifacts_and_a_second_one_of_a_name_replaces_the_first():
    found = Artifacts(count_max=2, bytes_max=10)
    found.add("a", b"12345")
    found.add("b", b"12345")
    found.add("a", b"1234")
    with pytest.raises(ArtifactRefused, match="more than 2"):
        found.add("c", b"")
    with pytest.raises(ArtifactRefused, match="11 bytes, the limit of an attempt is 10"):
        found.add("a", b"123456")

    assert {name: source.read(0, 9) for name, source in found.sources.items()} == {
        "a": b"1234",
        "b": b"12345",
    }


def test_a_file_is_read_although_it_was_removed_and_everything_is_closed_at_the_end(tmp_path):
    written(tmp_path, "a.txt")
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = Artifacts()
    found.add("a", tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    content = found.sources["a"].read(0, 100)
    found.close()

    assert content == b"a.txt"
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ArtifactRefused, match="the attempt has ended"):
        found.add("b", b"")


def test_what_is_no_file_is_not_opened_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactRefused, match="it is no file"):
        Artifacts().add("pipe", tmp_path / "pipe")

    assert collected(tmp_path, "*").refused == ["artifact 'pipe' cannot be kept: it is no file"]


def test_threads_may_keep_at_the_same_time():
    found = Artifacts(count_max=50)

    def keep(number: int) -> None:
        for one in range(20):
            try:
                found.add(f"{number}/{one}", b"x")
            except ArtifactRefused:
                return

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found.sources) == 50


@pytest.mark.parametrize(
    "pattern", ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".", "./a", "a\\b", "a\0"]
)
def test_a_pattern_that_leaves_the_folder_is_none(pattern):
    assert pattern_problem(pattern) is not None


def test_a_test_of_a_handler_sees_its_artifacts():
    async def work(ctx) -> None:
        ctx.artifact("a/b.txt", b"content")

    assert run_handler(work).artifacts == {"a/b.txt": b"content"}

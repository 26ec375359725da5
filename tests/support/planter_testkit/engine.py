"""A container engine for tests: Podman, with folders of its own and one image of a busybox."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from planter_testkit.nats import end

IMAGE = "localhost/planter-test:1"
READY_SECONDS = 20.0
_COMMANDS = (
    "sh",
    "cat",
    "echo",
    "env",
    "grep",
    "setsid",
    "false",
    "head",
    "id",
    "ls",
    "printf",
    "sleep",
    "true",
    "yes",
    "dd",
    "pwd",
)
_CONFIG = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=2000:2000"]
"""


@contextmanager
def running_engine(folder: Path) -> Generator[str]:
    """The address of an engine, as ``DOCKER_HOST`` has it; skips where there can be none."""
    busybox = shutil.which("busybox")
    if shutil.which("podman") is None or shutil.which("runc") is None or busybox is None:
        pytest.skip("needs podman, runc and busybox-static (Debian packages)")
    if os.geteuid() != 0:
        pytest.skip("this set-up of podman needs root")
    with tempfile.TemporaryDirectory(prefix="engine-") as short:  # podman takes no long path here
        yield from _running(folder, Path(short), busybox)


def _running(folder: Path, short: Path, busybox: str) -> Generator[str]:
    (folder / "containers.conf").write_text(_CONFIG)
    environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
    podman = ["podman", "--root", f"{folder}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
    _import_image(folder, podman, environment, busybox)
    socket = short / "podman.sock"
    with (folder / "podman.log").open("wb") as log:
        service = subprocess.Popen(
            [*podman, "system", "service", "--time=0", f"unix://{socket}"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not socket.exists():
            if time.monotonic() > deadline or service.poll() is not None:
                raise RuntimeError((folder / "podman.log").read_text())
            time.sleep(0.02)
        yield f"unix://{socket}"
    finally:
        subprocess.run(
            [*podman, "rm", "--all", "--force", "--time=0"], env=environment, check=False, capture_output=True
        )
        end(service)


def _import_image(folder: Path, podman: list[str], environment: dict[str, str], busybox: str) -> None:
    tree = folder / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "tmp").mkdir()
    shutil.copy(busybox, tree / "bin" / "busybox")
    for name in _COMMANDS:
        (tree / "bin" / name).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(folder / "tree.tar"), "."], check=True)
    command = [*podman, "import", "--quiet", str(folder / "tree.tar"), IMAGE]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"podman cannot import an image here: {done.stderr.strip()[-200:]}")

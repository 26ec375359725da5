"""A network of this thread's own, in which servers can be cut off from each other (reliability design, 7.2).

Only its loopback interface exists. Each server runs as a user of its own, so that nft can tell their packets
apart; the ports of clients stay open, so that clients of an isolated server can be observed.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from planter_testkit.faults.outcome import Skipped
from planter_testkit.nats import server_binary

FIRST_USER = 61_001
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_RULES = """
table inet cut {{
  chain tagged {{
    type filter hook output priority -10;
    meta skuid {user} tcp dport {{ {routes} }} ct mark set 1
    meta skuid {user} tcp sport {{ {routes} }} ct mark set 1
  }}
  chain outgoing {{
    type filter hook output priority 0;
    ct mark 1 drop
  }}
  chain incoming {{
    type filter hook input priority 0;
    ct mark 1 drop
  }}
}}
"""


@contextmanager
def own_network() -> Generator[None]:
    """For the block, sockets and processes that this thread makes are in a network of their own.

    Raises:
        Skipped: the tools are missing, or this user may not.
    """
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            raise Skipped(f"{tool} is not installed")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            raise Skipped(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            for command in (["ip", "link", "set", "lo", "up"], ["nft", "list", "ruleset"]):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise Skipped(f"{' '.join(command)}: {done.stderr.strip()}")
            yield
        finally:
            if libc.setns(before, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "the thread cannot return to its network")
    finally:
        os.close(before)


@contextmanager
def folder_for_users(users: Sequence[int]) -> Generator[Path]:
    """A folder below which those users can have theirs; the tests' own one is often closed to others.

    Raises:
        Skipped: processes of other users cannot be started, or cannot see the server.
    """
    command = [server_binary(), "--version"]
    for user in users:
        try:
            subprocess.run(command, user=user, group=user, capture_output=True, check=True, cwd="/")
        except (OSError, subprocess.CalledProcessError) as error:
            raise Skipped(f"nats-server cannot run as user {user}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="planter-users-", ignore_cleanup_errors=True) as opened:
        Path(opened).chmod(0o711)
        yield Path(opened)


def isolate(user: int, routes: Sequence[int]) -> None:
    """Cut the server of this user off from all others."""
    rules = _RULES.format(user=user, routes=", ".join(map(str, routes)))
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def heal() -> None:
    """Let everything through again."""
    subprocess.run(["nft", "flush", "ruleset"], check=True)

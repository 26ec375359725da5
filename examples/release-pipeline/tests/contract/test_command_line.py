"""The command line as its users call it."""

import subprocess
import sys
import unittest


class CommandLine(unittest.TestCase):
    """Exit status and output."""

    def test_it_greets(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "greeter", "Ada"], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "Hello, Ada.\n")

    def test_it_explains_itself(self) -> None:
        done = subprocess.run([sys.executable, "-m", "greeter"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("usage: greeter", done.stderr)

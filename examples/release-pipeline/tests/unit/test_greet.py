"""Unit tests of the greeting."""

import unittest

from greeter import greet


class Greet(unittest.TestCase):
    """What a greeting looks like."""

    def test_it_is_polite(self) -> None:
        self.assertEqual(greet("Ada"), "Hello, Ada.")

    def test_it_can_be_excited(self) -> None:
        self.assertEqual(greet("Ada", excited=True), "Hello, Ada!")

    def test_it_needs_a_name(self) -> None:
        with self.assertRaises(ValueError):
            greet("  ")

"""Items of a phase in listings."""

from planter.cli.items import beneath, whole_of


def test_items_are_listed_beneath_their_phase():
    names = ["a", "b", "c", "b[0]", "c[0]", "b[1]"]

    assert beneath(names, str) == ["a", "b", "b[0]", "b[1]", "c", "c[0]"]


def test_what_only_looks_like_an_item_stays_where_it_is():
    assert beneath(["x[0]", "b[one]", "b"], str) == ["x[0]", "b[one]", "b"]
    assert whole_of("x[0]", {"b"}) is None
    assert whole_of("b", {"b"}) is None

"""What a phase asks of its runtime: checked, and in the core's words."""

from collections.abc import Iterator, Sequence

import planter_schemas as schemas
from planter.core.constraints import value_fault
from planter.core.patterns import pattern_size
from planter.core.plan import Affinity, Constraint, PlacementRules

PATTERNS_SIZE_MAX = 2_000
"""Of all patterns of a manifest: each is matched with each runtime when the fleet changes."""


def placement_rules(phase: schemas.Phase) -> PlacementRules | None:
    """The rules of a phase; None when it has none."""
    if not phase.constraints and not phase.affinity and phase.slots == 1:
        return None
    return PlacementRules(
        constraints=tuple(Constraint(one.label, one.operator, one.value) for one in phase.constraints),
        affinity=tuple(Affinity(one.label, one.operator, one.value, one.weight) for one in phase.affinity),
        slots=phase.slots,
    )


def check_placement(loaded: schemas.Loaded, phases: Sequence[schemas.Phase]) -> Iterator[schemas.Problem]:
    """Everything that is wrong with the patterns and the version comparisons of these phases."""
    patterns: set[str] = set()
    size = 0
    for phase in phases:
        rules = placement_rules(phase)
        if rules is None:
            continue
        for name, listed in (("x-constraints", rules.constraints), ("x-affinity", rules.affinity)):
            place = loaded.path_of_extension(phase.id, name)
            for index, one in enumerate(listed):
                if (fault := value_fault(one)) is not None:
                    path, label = (*place, index, "value"), f"not a value of `{one.operator}`"
                    message = f"`{one.value}` cannot be used: {fault}"
                    yield loaded.problem(path, "PLT-1332", message, label=label)
                elif one.operator == "regexp" and one.value not in patterns:
                    patterns.add(one.value)
                    before, size = size, size + pattern_size(one.value)
                    if before <= PATTERNS_SIZE_MAX < size:
                        path = (*place, index, "value")
                        message = (
                            f"with it the patterns of the manifest have more than {PATTERNS_SIZE_MAX:,} "
                            "characters, repetitions written out"
                        )
                        yield loaded.problem(path, "PLT-1332", message, label="too many patterns")

"""Reading manifests for commands: load, compile, show every problem."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from planter.cli.output import note

if TYPE_CHECKING:
    from planter.core.plan import Plan
    from planter_schemas import Loaded, Problem


class Read(NamedTuple):
    """A manifest, as far as it could be understood."""

    source: str
    loaded: "Loaded"
    plan: "Plan | None"
    """None when the manifest cannot be used."""
    problems: "tuple[Problem, ...]"

    @property
    def errors(self) -> int:
        """Problems that keep the manifest from being used."""
        return sum(1 for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> int:
        """Problems that are only told."""
        return len(self.problems) - self.errors

    def canonical(self) -> list[dict[str, Any]]:
        """All phases in canonical spelling: what is sent to a planner, with ``target``."""
        assert self.loaded.manifest is not None
        return self.loaded.manifest.to_json()

    @property
    def target(self) -> str | None:
        """The phase that the plan goes up to."""
        return self.plan.target if self.plan is not None else None


def read_manifest(
    file: str, variables: Mapping[str, str], *, strict: bool = False, target: str | None = None
) -> Read:
    """Load and compile a manifest file, or standard input for ``-``.

    ``target`` is the phase to go up to, instead of the manifest's own. Never raises for a bad file: that is a
    problem like any other.
    """
    import planter_schemas as schemas  # noqa: PLC0415
    from planter.compile.phases import compile_manifest  # noqa: PLC0415

    loaded = schemas.load_manifest_file(file, variables=variables, strict=strict)
    compiled = compile_manifest(loaded, target)
    refused = any(problem.severity == "error" or strict for problem in compiled.problems)
    return Read(
        loaded.source,
        loaded,
        None if refused else compiled.plan,
        tuple(compiled.problems),
    )


def show_problems(read: Read) -> None:
    """Every problem of a manifest on stderr, with the line it stands on."""
    if not read.problems:
        return
    import planter_schemas as schemas  # noqa: PLC0415
    from planter.cli.output import console  # noqa: PLC0415

    target = console(stderr=True)
    color = target.is_terminal and not target.no_color
    note(schemas.render_problems(read.problems, text=read.loaded.texts, color=color).rstrip("\n"))


def edges(plan: "Plan") -> int:
    """How many waits a plan has, external ones included."""
    return sum(len(phase.needs) + len(phase.external) for phase in plan.phases)

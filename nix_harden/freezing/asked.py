"""What a user asks of freezing, as one value; checked, and done in one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nix_harden.errors import UsageError
from nix_harden.freezing.freeze import explain, freeze, freeze_closure, observe
from nix_harden.freezing.frozen import Frozen, Order
from nix_harden.freezing.opened import Observed
from nix_harden.freezing.ordering import Ordering


@dataclass(frozen=True, slots=True)
class Asked:
    """A program, the words to run it with where it is observed, and how it is to be frozen, as the options of `nix-harden freeze` say."""

    program: str
    words: tuple[str, ...]
    output: str | None
    in_place: bool
    closure: str | None
    relative: bool
    order: Order
    also: tuple[str, ...]
    observe: bool
    explain_order: bool

    @property
    def writes(self) -> bool:
        return self.output is not None or self.in_place

    def __post_init__(self) -> None:
        """Raises UsageError for what does not go together."""
        if self.closure is None and self.relative:
            raise UsageError("--relative", "is for the copies that --closure DIR makes; say where they go")
        for option, given in (("--order", self.order is not Order.LOADER), ("--explain-order", self.explain_order)):
            if given and self.closure is not None:
                raise UsageError(option, "is for --lift; with --closure every edge is bound where it stands")
        if not self.writes and not self.explain_order:
            raise UsageError("--output", "is not there; say the file to write, or --in-place, or --explain-order")


def look(asked: Asked, warn: Callable[[str], None]) -> tuple[Observed, ...]:
    """What the program opens as it runs, where that was asked for. Raises as `observe`."""
    observed, status = observe(asked.program, asked.words) if asked.observe and asked.writes else ((), 0)
    if status:
        warn(f"{asked.program} ended with status {status}; what it opened before is seen")
    return observed


def perform(asked: Asked, observed: Sequence[Observed]) -> tuple[Frozen | None, Ordering | None]:
    """What was written, if that was asked for, and the order that was proven or explained. Raises as `freeze`."""
    if not asked.writes:
        return None, explain(asked.program)
    if asked.closure is None:
        done = freeze(asked.program, asked.output, order=asked.order, also=asked.also, observed=observed)
    else:
        done = freeze_closure(
            asked.program, asked.output, asked.closure, relative=asked.relative, also=asked.also, observed=observed
        )
    return done, done.ordering or (explain(asked.program) if asked.explain_order else None)

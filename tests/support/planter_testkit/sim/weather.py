"""How bad the network is in one history; drawn once, then every message asks."""

import random
from dataclasses import dataclass


@dataclass
class Weather:
    """Probabilities for each message; a message that is not named in any travels in about a millisecond."""

    draw: random.Random
    #: Arrives up to ``slow_seconds`` late; what follows on the same connection waits behind it.
    slow: float = 0.0
    slow_seconds: float = 1.0
    drop: float = 0.0
    repeat: float = 0.0
    #: Overtakes what was sent before it.
    overtake: float = 0.0
    #: A read that a replica answers which has not seen the newest writes.
    stale_read: float = 0.0
    #: The compare-and-set is answered with "another one is in flight", though nothing was stored.
    in_flight: float = 0.0

    @classmethod
    def drawn(cls, draw: random.Random, *, replicated: bool) -> "Weather":
        """From fair to foul: a third of the histories have a perfect network."""
        foul = draw.choice((0.0, 0.0, 0.3, 1.0))

        def some(most: float) -> float:
            return draw.random() * most * foul

        return cls(
            draw,
            slow=some(0.03),
            slow_seconds=draw.choice((0.05, 0.5, 3.0)),
            drop=some(0.02),
            repeat=some(0.03),
            overtake=some(0.05),
            stale_read=draw.random() * 0.3 if replicated else 0.0,
            in_flight=some(0.05) if replicated else 0.0,
        )

    def calm(self) -> None:
        """From now on every message arrives once, soon and in order."""
        self.slow = self.drop = self.repeat = self.overtake = self.stale_read = self.in_flight = 0.0

    def delay(self) -> float:
        """Seconds of travel."""
        seconds = 0.0001 + self.draw.random() * 0.0009
        if self.slow and self.draw.random() < self.slow:
            seconds += self.draw.random() * self.slow_seconds
        return seconds

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return probability > 0 and self.draw.random() < probability

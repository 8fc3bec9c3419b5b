"""The parts of the benchmark that an experiment reads."""

from __future__ import annotations

from dataclasses import dataclass

from lamp_exp.data import Part


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that an experiment reads: the one that is answered, the one that a model is
    fine-tuned on, and the one on which its best epoch is chosen (dev, or held-out users of train);
    and the one that other components learn from, which is all of train.
    """

    asked: Part
    train: Part | None = None
    selection: Part | None = None
    learning: Part | None = None

    @property
    def by_name(self) -> dict[str, Part]:
        """The parts that are read, by name."""
        named = {
            "asked": self.asked,
            "train": self.train,
            "selection": self.selection,
            "learning": self.learning,
        }
        return {name: part for name, part in named.items() if part is not None}

    @property
    def prompted(self) -> list[Part]:
        """The parts whose questions become prompts, each once."""
        parts = {id(part): part for name, part in self.by_name.items() if name != "learning"}
        return list(parts.values())

    @property
    def with_rewards(self) -> Part:
        """The part whose golds components learn from, or for a bound the asked one."""
        return self.learning or self.asked

"""Turns a knob within a pass that is on, or turns a pass on in another way than its lever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espdl_quantize.search.policies._base import PolicyContext
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Candidate, Generator
from espdl_quantize.setting import BiasCorrect, Equalization, FusionAlignment, Setting

LADDERS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "tqt_optimization": {
        "lr": (2e-6, 5e-6, 1e-5, 2e-5, 5e-5),
        "steps": (250, 500, 1000, 2000),
        "block_size": (2, 3, 4, 5),
    },
    "blockwise_reconstruction": {
        "lr": (1e-4, 3e-4, 1e-3),
        "steps": (1000, 2500, 5000),
        "block_size": (2, 4, 6),
    },
    "equalization": {
        "opt_level": (1, 2),
        "iterations": (3, 10, 30, 100),
        "value_threshold": (0.5, 1.0, 2.0),
    },
    "bias_correct": {"block_size": (1, 2, 4), "steps": (8, 16, 32, 64)},
    "weight_split": {"value_threshold": (1.5, 1.75, 2.0)},
}
"""Common values, ascending: from the comments of esp-ppq's setting.py and from tuning runs."""

_ALIGNMENTS: Mapping[str, Sequence[str]] = {
    # The others leave Add and Sub with exponents that the chip does not read.
    "align_elementwise_to": ("Align to Output",),
    "align_concat_to": ("Align to Large", "Align to Output", "None"),
    "align_resize_to": ("Align to Input", "Align to Output", "None"),
    "align_avgpooling_to": ("Align to Input", "Align to Output", "None"),
}

_OTHER_WAYS: Mapping[str, Sequence[Any]] = {
    "bias_correct": (
        BiasCorrect(enabled=True, block_size=1, steps=32),
        BiasCorrect(enabled=True, block_size=4, steps=64),
    ),
    "equalization": (
        Equalization(enabled=True, iterations=10, value_threshold=0.5, opt_level=1),
        Equalization(enabled=True, iterations=3, value_threshold=2.0, opt_level=2),
    ),
}


class TurnKnobs(Generator):
    """The next value up and down of each parameter of the passes that best has on."""

    pattern = "turn a knob"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield one candidate per parameter and neighbouring value."""
        base = context.base
        for name, ladders in LADDERS.items():
            section = getattr(base, name)
            if section is None or not section.enabled:
                continue
            for field, ladder in ladders.items():
                now = getattr(section, field)
                for value in _neighbours(now, ladder):
                    changed = section.model_copy(update={field: value})
                    yield self._candidate(
                        base.model_copy(update={name: changed}),
                        f"{name}.{field} is {now:g} in {context.base_name}",
                    )
        yield from self._alignments(base, context.base_name)

    def _alignments(self, base: Setting, name: str) -> Iterator[Candidate]:
        section = base.fusion_alignment
        if section is None:
            return
        for key, values in _ALIGNMENTS.items():
            now = getattr(section, key)
            for value in values if now is not None else ():
                if value != now:
                    changed = section.model_copy(update={key: value})
                    yield self._candidate(
                        base.model_copy(update={"fusion_alignment": changed}),
                        f"fusion_alignment.{key} is {now!r} in {name}",
                    )


class OtherWays(Generator):
    """A pass that best has off, turned on with other parameters than its lever has."""

    pattern = "turn a pass on"

    def candidates(
        self, context: PolicyContext, parameters: PolicyParameters
    ) -> Iterator[Candidate]:
        """Yield a few variants per pass, and alignment to the output."""
        base = context.base
        for name, sections in _OTHER_WAYS.items():
            section = getattr(base, name)
            if section is not None and section.enabled:
                continue
            for variant in sections:
                yield self._candidate(
                    base.model_copy(update={name: variant}), f"{context.base_name} has no {name}"
                )
        if base.fusion_alignment is None:
            for key in ("align_elementwise_to", "align_concat_to"):
                aligned = FusionAlignment.model_validate({key: "Align to Output"})
                yield self._candidate(
                    base.model_copy(update={"fusion_alignment": aligned}),
                    f"{context.base_name} has no fusion alignment",
                )


def _neighbours(now: float, ladder: Sequence[float]) -> list[float]:
    below = [value for value in ladder if value < now]
    above = [value for value in ladder if value > now]
    return below[-1:] + above[:1]

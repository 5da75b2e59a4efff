"""Passes turned on in another way, with other parameters, or off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from espdl_quantize.search._decisions import Proposal
from espdl_quantize.search.phase5 import passes_on
from espdl_quantize.search.policies._parameters import PolicyParameters
from espdl_quantize.search.policies.generators._base import Generator
from espdl_quantize.search.policies.generators.ops import with_int16
from espdl_quantize.setting import PASSES, FusionAlignment, Setting, enabled_passes, int16_ops

if TYPE_CHECKING:
    from espdl_quantize.search._state import SearchState


_ALIGNMENTS: Mapping[str, Sequence[str]] = {
    # The others leave Add and Sub with exponents that the chip does not read.
    "align_elementwise_to": ("Align to Output",),
    "align_concat_to": ("Align to Large", "Align to Output", "None"),
    "align_resize_to": ("Align to Input", "Align to Output", "None"),
    "align_avgpooling_to": ("Align to Input", "Align to Output", "None"),
}


class TurnKnobs(Generator):
    """The next value up and down of each parameter of the passes that best has on."""

    pattern = "turn a knob"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one candidate per parameter and neighbouring value."""
        base = state.base
        for spec, section in enabled_passes(base):
            for knob in spec.knobs:
                now = getattr(section, knob.field)
                for value in _neighbours(now, knob.values):
                    changed = section.model_copy(update={knob.field: value})
                    yield self._proposal(
                        base.model_copy(update={spec.field: changed}),
                        f"{spec.field}.{knob.field} is {now:g} in {state.base_name}",
                    )
        yield from self._alignments(base, state.base_name)

    def _alignments(self, base: Setting, name: str) -> Iterator[Proposal]:
        section = base.fusion_alignment
        if section is None:
            return
        for key, values in _ALIGNMENTS.items():
            now = getattr(section, key)
            for value in values if now is not None else ():
                if value != now:
                    changed = section.model_copy(update={key: value})
                    yield self._proposal(
                        base.model_copy(update={"fusion_alignment": changed}),
                        f"fusion_alignment.{key} is {now!r} in {name}",
                    )


class OtherWays(Generator):
    """A pass that best has off, turned on with other parameters than its lever has."""

    pattern = "turn a pass on"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield a few variants per pass, and alignment to the output."""
        base = state.base
        enabled = {spec.field for spec, _ in enabled_passes(base)}
        for name, spec in PASSES.items():
            for variant in spec.variants if name not in enabled else ():
                yield self._proposal(
                    base.model_copy(update={name: variant}), f"{state.base_name} has no {name}"
                )
        if base.fusion_alignment is None:
            for key in ("align_elementwise_to", "align_concat_to"):
                aligned = FusionAlignment.model_validate({key: "Align to Output"})
                yield self._proposal(
                    base.model_copy(update={"fusion_alignment": aligned}),
                    f"{state.base_name} has no fusion alignment",
                )


class Ablate(Generator):
    """One pass of best turned off."""

    pattern = "ablate"

    def candidates(self, state: SearchState, parameters: PolicyParameters) -> Iterator[Proposal]:
        """Yield one candidate per pass that is on, and one without any int16."""
        base, name = state.base, state.base_name
        for field in sorted(passes_on(base)):
            yield self._proposal(
                base.model_copy(update={field: None}), f"does {name} need {field}?"
            )
        if int16_ops(base):
            yield self._proposal(with_int16(base, ()), f"does {name} need any int16?")


def _neighbours(now: float, ladder: Sequence[float]) -> list[float]:
    below = [value for value in ladder if value < now]
    above = [value for value in ladder if value > now]
    return below[-1:] + above[:1]

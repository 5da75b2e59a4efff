"""The setting of one iteration: which esp-ppq passes run, and with which parameters.

Field names and defaults follow esp-ppq's ``QuantizationSetting`` (``esp_ppq/api/setting.py``); the
defaults of equalization are esp-ppq's own, so that an omitted field means what esp-ppq means by it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from espdl_quantize.core import dumps
from espdl_quantize.setting._section import Section
from espdl_quantize.setting.passes import PassFields

CalibAlgorithm = Literal["kl", "percentile", "mse", "minmax", "isotone"]
LargeOrOutput = Literal["None", "Align to Large", "Align to Output"]
InputOrOutput = Literal["None", "Align to Input", "Align to Output"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class FusionAlignment(Section):
    """Common scales for the inputs of multi-input ops; None keeps the ESP-DL default."""

    align_avgpooling_to: InputOrOutput | None = None
    """Of AveragePool."""
    align_elementwise_to: LargeOrOutput | None = None
    """Of Add and Sub. The chip adds raw integers: leave it at Align to Output, the default."""
    align_concat_to: LargeOrOutput | None = None
    """Of Concat."""
    align_resize_to: InputOrOutput | None = None
    """Of Resize."""
    force_alignment_overlap: bool | None = None
    """An alignment may replace a scale that another op shares."""


class Dispatch(Section):
    """The width of one op, by its name in the simplified graph."""

    op: str = Field(min_length=1, validation_alias=AliasChoices("op", "op_name"))
    """The op's name, as simplified_ops.json lists it; `op_name` is read as well."""
    bits: Literal[8, 16]
    """16 costs the chip about twice the cycles and the activation memory of the op."""


class _Head(Section):
    iteration_id: int = Field(ge=0)
    """The number of the iteration; the name of its folder, iter_<N>, decides."""
    rationale: str = ""
    """Why this setting; several changes at once cite the iterations that speak for them."""
    calib_algorithm: Annotated[CalibAlgorithm, BeforeValidator(_lower)] | None = None
    """How activations are scaled; null is esp-ppq's default: kl, at `num_of_bits` 16 minmax."""


class Setting(PassFields, _Head):
    """Everything that one iteration changes from plain 8-bit calibration."""

    fusion_alignment: FusionAlignment | None = None
    """Common scales at multi-input ops."""
    dispatching_table: list[Dispatch] | None = None
    """Ops with a width of their own."""
    extra: dict[str, Any] | None = None
    """Further attributes of esp-ppq's QuantizationSetting, set after all others."""


_DEFAULT_CALIBRATION: dict[int, CalibAlgorithm] = {8: "kl", 16: "minmax"}
"""Of activations, by the contract's width: ``QuantizationSettingFactory.espdl_setting``."""

DEFAULT_BITS = 8
"""The width that is assumed where nothing says what it is."""


def default_calibration(num_of_bits: int = DEFAULT_BITS) -> CalibAlgorithm:
    """Return what esp-ppq calibrates activations with where a setting names nothing."""
    return _DEFAULT_CALIBRATION[num_of_bits]


def with_calibration(setting: Setting, num_of_bits: int) -> Setting:
    """Return the setting with its calibration spelled out.

    What null means depends on the contract's width, which a setting does not hold: wherever the
    width is known, settings that are compared, keyed or described pass through here first.
    """
    if setting.calib_algorithm is not None:
        return setting
    return setting.model_copy(update={"calib_algorithm": default_calibration(num_of_bits)})


def baseline(iteration_id: int = 0, num_of_bits: int | None = DEFAULT_BITS) -> Setting:
    """Return the setting of a baseline: esp-ppq's own defaults and nothing else.

    Args:
        iteration_id: its number.
        num_of_bits: the contract's default width, by which esp-ppq's calibration differs; None
            where it is not known, which leaves the choice to esp-ppq.
    """
    name = None if num_of_bits is None else default_calibration(num_of_bits)
    calibration = "" if name is None else f" ({name} calibration)"
    return Setting(
        iteration_id=iteration_id,
        rationale=f"Baseline: esp-ppq's default ESP-DL setting{calibration}, no other pass.",
        calib_algorithm=name,
    )


def json_schema() -> str:
    """Return the JSON Schema of a setting as text, for editors and agents."""
    return dumps(Setting.model_json_schema(by_alias=False))

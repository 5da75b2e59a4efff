"""What runs and searches take beyond what every call says, and the types of their arguments."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from espdl_quantize.core import Strategy
from espdl_quantize.mcp.arguments import SETTING_FILE, SETTING_SCHEMA
from espdl_quantize.record.files import LARGEST_ITERATION
from espdl_quantize.search.policies import POLICIES
from espdl_quantize.targets.ops import supported_version, version_text
from espdl_quantize.tuning import BUDGET_RULE, parse_duration

IterationNumber = Annotated[int, Field(ge=0, le=LARGEST_ITERATION)]
Iterations = Annotated[
    int, Field(ge=1, le=10_000, description=f"How many iterations this call may run. {BUDGET_RULE}")
]
Duration = Annotated[
    str,
    Field(
        max_length=20,
        json_schema_extra={"pattern": r"^[0-9hHmMsS. ]+$"},
        description="45m, 1h30m, 90s.",
    ),
]
EspDlVersion = Annotated[
    str | None,
    Field(
        max_length=20,
        description="Of ESP-DL on the chip, such as 3.3.9, in place of the contract's.",
    ),
]


class _Advanced(BaseModel):
    """What few runs need."""

    model_config = ConfigDict(extra="forbid")

    use_full_eval: bool = Field(
        default=False, description="Score by evaluate(), not by evaluate_fast()."
    )
    no_float_score: bool = Field(default=False, description="Leave the float model unscored.")
    allow_mismatch: bool = Field(
        default=False, description="Go on where what esp-ppq reads is not the model."
    )
    esp_dl_version: EspDlVersion = None
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="Of every random generator.")
    engine: Literal["fast", "reference"] = Field(
        default="fast", description="reference: plain esp-ppq."
    )
    iteration_limit: Duration | None = Field(
        default=None,
        description="End an iteration that takes longer, as failed: 30m, 2h, or seconds.",
    )
    no_reuse: bool = Field(default=False, description="Share no results with other iterations.")

    def arguments(self, *names: str) -> list[str]:
        """Return them as the command takes them."""
        arguments = ["--seed", str(self.seed), "--engine", self.engine]
        arguments += flags_of(
            **{name: getattr(self, name) for name in ("use_full_eval", "no_float_score", *names)},
            allow_mismatch=self.allow_mismatch,
            no_reuse=self.no_reuse,
        )
        arguments += esp_dl_arguments(self.esp_dl_version)
        if self.iteration_limit is not None:
            parse_duration(self.iteration_limit)
            arguments.append(f"--iteration-limit={self.iteration_limit}")
        return arguments


class RunOptions(_Advanced):
    """Of run_iteration."""

    iteration: int | None = Field(
        default=None,
        ge=0,
        le=LARGEST_ITERATION,
        description="The N of iter_N; else the next free one.",
    )
    allow: bool = Field(
        default=False, description="Run a setting that breaks a rule of the search."
    )
    info: bool = Field(default=False, description="Export .info and .json, too.")
    native: bool = Field(default=False, description="Export .native, too.")


class TuneOptions(_Advanced):
    """Of tune."""

    strategy: Literal["seed", "swift"] | None = Field(
        default=None,
        description="Whose rules decide the next step: swift tries what is cheap first; seed pairs "
        "each calibration with training. Without it, the folder's; swift where it names none.",
    )
    policy: Literal["evidence", "optuna", "random"] = Field(
        default="evidence", description="Who explores once the strategy is through."
    )
    ignore_plateau: bool = Field(
        default=False, description="Go on where the metric stopped moving."
    )
    parallel: int | None = Field(
        default=None, ge=1, le=1024, description="Run up to so many iterations at once, on Ray."
    )
    ray: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^[A-Za-z0-9_.:/\[\]-]+$",
        description="With parallel: the cluster, such as auto; else a Ray of its own.",
    )
    recorded: str | None = Field(
        default=None,
        description="Instead of a contract: a recorded table (.zip), which is replayed.",
    )
    pace: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="With recorded: at so many times the recorded speed.",
    )


assert {"seed", "swift"} == set(Strategy)
assert set(get_args(TuneOptions.model_fields["policy"].annotation)) == set(POLICIES)
SettingOrWord = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"enum": ["next", "baseline"]}, SETTING_FILE, SETTING_SCHEMA],
            "description": "next: what the search asks for; baseline; or a whole setting.",
        }
    ),
]


def esp_dl_arguments(version: str | None) -> list[str]:
    """Return the version of ESP-DL as the command takes it.

    Raises:
        ContractError: it is none.
    """
    if version is None:
        return []
    return ["--esp-dl-version", version_text(supported_version(version))]


def flags_of(**flags: bool) -> list[str]:
    """Return the flags that are set, as the command takes them."""
    return [f"--{name.replace('_', '-')}" for name, is_set in flags.items() if is_set]

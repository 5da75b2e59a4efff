"""How an iteration runs."""

from __future__ import annotations

from dataclasses import dataclass

from espdl_quantize.core import Engine, Strategy


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an iteration runs, apart from its setting.

    Attributes:
        full_eval: score by evaluate even where the contract has an evaluate_fast.
        seed: of every random generator.
        with_info: export .info and .json beside the .espdl.
        with_native: export esp-ppq's own .native beside the .espdl.
        overwrite: replace a finished iteration.
        engine: "fast", or "reference" for plain esp-ppq.
        score_float: score the float model first, which also proves the contract's evaluation.
        reuse: take the results of long passes from earlier iterations of the output folder.
        reduced_memory: keep what is large on the disk, with the same results.
        home: the output folder that the run belongs to, where that is not the one above its own:
            whose float scores and whose results of long passes it takes.
        final: score by evaluate_final, or by evaluate where there is none; analyse nothing.
        draw: of the calibration data; 0 is as the loader gives it. Another analyses nothing.
        stop_without_effect: end where the quantized graph is that of an earlier iteration, whose
            score and artifacts count; nothing is analysed, exported or scored.
        allow_mismatch: go on where the float model that esp-ppq reads is not the contract's own.
        strategy: of the search that runs it; None where none was asked for.
        analyse: look for where the error comes from, which no later run can make up for.
        analysed: on so many samples, where the contract has no analyse_steps; None for as many
            batches as esp-ppq reads by default.
        beside: ids of the iterations that had not ended when this one was decided on.
        test_values: leave model_test.espdl, the model with a recorded input and output, too.
    """

    full_eval: bool = False
    seed: int = 0
    with_info: bool = False
    with_native: bool = False
    overwrite: bool = False
    engine: Engine = Engine.FAST
    score_float: bool = True
    reuse: bool = True
    reduced_memory: bool = False
    home: str = ""
    final: bool = False
    draw: int = 0
    allow_mismatch: bool = False
    test_values: bool = True
    stop_without_effect: bool = True
    strategy: Strategy | None = None
    analyse: bool = True
    analysed: int | None = None
    beside: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # It may come from JSON.
        object.__setattr__(self, "engine", Engine(self.engine))
        object.__setattr__(self, "beside", tuple(self.beside))
        if self.strategy is not None:
            object.__setattr__(self, "strategy", Strategy(self.strategy))

    @property
    def is_auxiliary(self) -> bool:
        """Return whether it is an auxiliary run, which is no step of the search."""
        return self.final or self.draw > 0

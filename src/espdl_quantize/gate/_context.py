"""What the stages of the gate work on, and what they leave for each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espdl_quantize.contract import Batch, Contract
from espdl_quantize.core import NoProgress, Progress
from espdl_quantize.iteration import Prepared, Score
from espdl_quantize.ppq import FloatModel
from espdl_quantize.targets import TargetFacts


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What is examined, and how.

    Attributes:
        score: call the contract's evaluation on the float model.
        seed: of every random generator.
    """

    score: bool = True
    seed: int = 0


@dataclass
class GateContext:
    """What is known of a contract so far.

    A field without a value in the constructor is set by a stage; until then :meth:`has` denies it,
    and a stage that ``needs`` it does not run.

    Attributes:
        path: of the contract's module.
        scratch: a folder for files that may be removed after the examination.
        options: what is examined.
        progress: receives the stages.
        facts: what is told of a contract that holds, by name, in the order of their stages.
        contract: the loaded module.
        prepared: reads its data and exports its model, once.
        target: what the chip's quantizer does.
        batches: the first calibration batches, collated, on the contract's device.
        runs: set where the user's own model runs on a batch.
        model: the float model as esp-ppq reads it.
        graph: the same, parsed; it has run on a batch.
        scored: the float model's score by the function that the search scores by.
        final: the same by evaluate_final, where there is one.
    """

    path: Path
    scratch: Path
    options: GateOptions = field(default_factory=GateOptions)
    progress: Progress = field(default_factory=NoProgress)
    facts: dict[str, object] = field(default_factory=dict)
    contract: Contract = field(init=False)
    prepared: Prepared = field(init=False)
    target: TargetFacts = field(init=False)
    batches: list[Batch] = field(init=False)
    runs: bool = field(init=False)
    model: FloatModel = field(init=False)
    graph: Any = field(init=False)
    scored: Score = field(init=False)
    final: Score = field(init=False)

    def has(self, name: str) -> bool:
        """Tell whether a field has been set."""
        return name in vars(self)

    def probe(self) -> Batch:
        """Return the first calibration batch; random numbers of its shape where there is none."""
        if self.has("batches"):
            return self.batches[0]
        import torch

        config = self.contract.config
        generator = torch.Generator().manual_seed(self.options.seed)
        return Batch(
            tuple(
                torch.randn([config.batch_size, *shape], generator=generator).to(config.device)
                for shape in config.input_shapes
            )
        )

"""What the stages of the gate work on, and what they leave for each other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import NO_OVERRIDES, Batch, Contract, Keeper, Overrides, read_batches
from espdl_quantize.core import Engine, NoProgress, Progress
from espdl_quantize.iteration import Prepared, Score, ScoreFacts
from espdl_quantize.ppq import (
    FloatModel,
    QuantizationEngine,
    QuantizedModel,
    engine_for,
    seed_everything,
)
from espdl_quantize.targets import TargetFacts

if TYPE_CHECKING:
    from espdl_quantize.ppq.equivalence import Equivalence

FEW_OF_EACH = 8
"""Samples of a batch that are kept where a draw of all batches is asked for."""


class _FewOfEach(Keeper):
    """Keeps the first samples of each batch."""

    def keep(self, batch: Batch) -> Batch:
        return super().keep(_few(batch))


def _few(batch: Batch) -> Batch:
    return batch.take(range(min(batch.sample_count, FEW_OF_EACH)))


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What is examined, and how.

    Attributes:
        allow_mismatch: a float model that is not the contract's own is no fault.
        score: call the contract's evaluation on the float model.
        final: call evaluate_final on it, too, where there is one.
        seed: of every random generator.
        full_eval: score by evaluate even where the contract has an evaluate_fast.
        engine: quantizes the trial, and runs what is scored.
        overrides: what holds in place of the contract's own.
    """

    score: bool = True
    allow_mismatch: bool = False
    final: bool = True
    seed: int = 0
    full_eval: bool = False
    engine: Engine = Engine.FAST
    overrides: Overrides = NO_OVERRIDES


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
        facts: what is known of a contract that holds, by name, in the order of their stages.
        reads_all: read the whole calibration data, for the iteration that follows.
        faulty: keys and functions of the contract that harmless ones stand in for.
        contract: the loaded module.
        prepared: reads its data and exports its model, once.
        target: what the chip's quantizer does.
        engine: is installed from the stage that sets it until the examination ends.
        has_device: set where torch can use the contract's device.
        batches: the first calibration batches, collated, on the contract's device.
        drawn: a few samples of every batch that calibrates, once :meth:`draw` has read them.
        inputs_fit: set where the model declares the inputs that the contract says.
        runs: set where the user's own model runs on a batch.
        model: the float model as esp-ppq reads it.
        graph: the same, parsed; it has run on a batch.
        equivalence: how far that graph is from the user's own model.
        scored: the float model's score by the function that the search scores by.
        score_seconds: that the evaluation took.
        score_facts: what the score rests on.
        final: the same by evaluate_final, where there is one.
        trial: the model, quantized on one batch by the baseline's setting.
    """

    path: Path
    scratch: Path
    options: GateOptions = field(default_factory=GateOptions)
    progress: Progress = field(default_factory=NoProgress)
    facts: dict[str, object] = field(default_factory=dict)
    reads_all: bool = False
    faulty: frozenset[str] = frozenset()
    contract: Contract = field(init=False)
    prepared: Prepared = field(init=False)
    target: TargetFacts = field(init=False)
    engine: QuantizationEngine = field(init=False)
    has_device: bool = field(init=False)
    batches: list[Batch] = field(init=False)
    drawn: list[Batch] = field(init=False)
    inputs_fit: bool = field(init=False)
    runs: bool = field(init=False)
    model: FloatModel = field(init=False)
    graph: Any = field(init=False)
    equivalence: Equivalence = field(init=False)
    scored: Score = field(init=False)
    score_seconds: float = field(init=False)
    score_facts: ScoreFacts = field(init=False)
    final: Score = field(init=False)
    _installed: ExitStack = field(default_factory=ExitStack, repr=False)
    trial: QuantizedModel = field(init=False)

    def install_engine(self) -> None:
        """Put the engine to work until :meth:`close`."""
        engine = engine_for(self.options.engine)
        self._installed.enter_context(engine.install())
        self.engine = engine

    def close(self) -> None:
        """Put back what the stages changed of the process."""
        self._installed.close()

    def has(self, name: str) -> bool:
        """Tell whether a field has been set."""
        return name in vars(self)

    def draw(self) -> bool:
        """Take a few samples of every batch that calibrates; only the first were read so far.

        The first may be of one kind: the first frames of every sequence with a state of zeros, or
        one class. So what is odd in them is reported once it is odd in all.

        Returns:
            Whether :attr:`drawn` was not there and now is.

        Raises:
            ContractError: a later batch breaks the contract.
        """
        if self.has("drawn"):
            return False
        limit = self.contract.config.calib_steps
        if self.reads_all or not self.contract.has_evaluate:
            self.drawn = [_few(batch) for batch in self.batches[:limit]]
            return True
        seed_everything(self.options.seed)
        self.drawn = read_batches(self.contract, limit=limit, keeper=_FewOfEach())
        return True

    def probe(self) -> Batch:
        """Return the first calibration batch; random numbers of its shape where there is none."""
        if self.has("batches"):
            return self.batches[0]
        import torch

        config = self.contract.config
        generator = torch.Generator().manual_seed(self.options.seed)
        return Batch(
            tuple(
                torch.randn(spec.batched(config.batch_size), generator=generator).to(config.device)
                for spec in config.inputs
            ),
            config.input_names,
            config.batch_axes,
        )

"""What all iterations of one process share: the calibration batches and the float model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from espdl_quantize.contract import Batch, Contract, Keeper, count_samples, read_batches
from espdl_quantize.core import error_of
from espdl_quantize.iteration.unlabelled import FloatAgreement, hold_out, without
from espdl_quantize.ppq import (
    FloatModel,
    is_spilling,
    prepare_float_model,
    probe_float_model,
    spill_batch,
    spilling_to,
)

if TYPE_CHECKING:
    from espdl_quantize.ppq.equivalence import Equivalence

IN_MEMORY = 1 << 30
"""Bytes of batches beyond which more are kept on the disk."""

ON_DISK = 16 << 30
"""Bytes on the disk from which on no more batches are read than are needed."""


class _OnDisk(Keeper):
    """Keeps batches in memory until there are many, and then on the disk.

    Small tensors, and what lies on a GPU, are always kept where they are.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._on_disk = folder, 0

    def keep(self, batch: Batch) -> Batch:
        if is_spilling() or self.in_memory + batch.nbytes <= IN_MEMORY:
            return super().keep(spill_batch(batch))
        with spilling_to(self._folder):
            kept = spill_batch(batch)
        pairs = zip(kept.tensors, batch.tensors, strict=True)
        written = sum(new.nbytes for new, old in pairs if new.data_ptr() != old.data_ptr())
        self._on_disk += written
        self.in_memory += batch.nbytes - written
        return kept

    @property
    def is_full(self) -> bool:
        return super().is_full or self._on_disk > ON_DISK


class Prepared:
    """Reads the data and exports the model of a contract once, however many iterations use them.

    A changed model or changed data is seen by the next process. Close it when no iteration needs
    the float model's file any more.

    Args:
        contract: whose data and model these are.
        scratch: where to keep the float model's file; None for the system's place.

    Attributes:
        notes: on the data, for the user to know.
    """

    def __init__(self, contract: Contract, scratch: Path | None = None) -> None:
        self.contract = contract
        self._scratch = None if scratch is None else scratch.absolute()
        self._batches: tuple[int, list[Batch], int | None] | None = None
        self._held_out: list[Batch] = []
        self._agreement: FloatAgreement | None = None
        self.notes: list[str] = []
        self._model: tuple[FloatModel, Any] | None = None
        self._equivalence: Equivalence | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the float model's file."""
        self._model = self._equivalence = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def batches(
        self, seed: int, on_batch: Callable[[int, int | None], None]
    ) -> tuple[list[Batch], int | None]:
        """Return the calibration batches, and how many the loader says to have.

        Args:
            seed: the generators were seeded with it; a loader that shuffles depends on it.
            on_batch: notified of each batch that is read.

        Raises:
            ContractError: the loader breaks the contract.
        """
        if self._batches is None or self._batches[0] != seed:
            length: int | None = None

            def note(done: int, total: int | None) -> None:
                nonlocal length
                length = total
                on_batch(done, total)

            self._batches = None  # frees the memory first
            keeper = _OnDisk(self._own_folder())
            batches = read_batches(self.contract, on_batch=note, keeper=keeper)
            self._agreement, self.notes = None, []
            if not self.contract.has_evaluate:
                # What is held out is not left over.
                length = length if length is not None and len(batches) < length else None
                batches = self._divided(batches, keeper)
            self._batches = (seed, batches, length)
        return self._batches[1], self._batches[2]

    def _divided(self, batches: list[Batch], keeper: Keeper) -> list[Batch]:
        """Hold out what scores without labels, and return what calibrates."""
        if not self.contract.has_score_loader:
            batches, self._held_out = hold_out(batches)
            held, left = count_samples(self._held_out), count_samples(batches)
            self.notes.append(
                f"{held} samples of create_calib_dataloader() score, and do not calibrate; {left} "
                "calibrate; with create_score_dataloader() all would"
            )
            return batches
        scoring = read_batches(self.contract, keeper=keeper, purpose="score")
        self._held_out, removed = without(scoring, batches)
        if removed:
            self.notes.append(
                f"{removed} samples of create_score_dataloader() are calibration samples, and do "
                "not score"
            )
        return batches

    def agreement(self, seed: int) -> FloatAgreement | None:
        """Return what scores without labels; None where the contract has an evaluate.

        Args:
            seed: as of :meth:`batches`, which are read here where they were not.

        Raises:
            ContractError: the held-out samples cannot be read or run.
        """
        if self.contract.has_evaluate:
            return None
        batches, _ = self.batches(seed, lambda done, total: None)
        if self._agreement is None:
            model, graph = self.float_model(batches[0])
            metric = self.contract.config.primary_metric
            self._agreement = FloatAgreement(model, graph, self._held_out, metric)
        return self._agreement

    def _own_folder(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="espdl-quantize-", dir=self._scratch)
        return Path(self._folder.name)

    def float_model(self, batch: Batch) -> tuple[FloatModel, Any]:
        """Return the simplified float model, and a graph of it that has run on ``batch``.

        Raises:
            ContractError: the model cannot be loaded or has its batch size baked in.
            IterationError: it cannot be exported, simplified or run.
        """
        if self._model is None:
            model = prepare_float_model(self.contract, self._own_folder(), batch)
            self._model = (model, probe_float_model(model, batch))
        return self._model

    def equivalence(self, batch: Batch) -> Equivalence:
        """Compare the float model, as esp-ppq reads it, with the contract's own model, once.

        Args:
            batch: as for :meth:`float_model`.

        Raises:
            ContractError: the model cannot be loaded or run.
            IterationError: it cannot be exported, simplified or run.
        """
        if self._equivalence is None:
            model, graph = self.float_model(batch)
            # It loads onnx, which the process that watches over a search can do without.
            from espdl_quantize.ppq.equivalence import compare_with_source

            self._equivalence = compare_with_source(self.contract, model, graph, batch)
        return self._equivalence

    def mismatch(self, batch: Batch, *, allow: bool) -> str | None:
        """Return in how far esp-ppq reads another model than the contract's; None where it is one.

        Args:
            batch: as for :meth:`float_model`.
            allow: go on with the other model.

        Raises:
            EspdlQuantizeError: it is another model, and that is not allowed.
        """
        faults = self.equivalence(batch).faults
        error = error_of(faults)
        if error is not None and not allow:
            raise error
        return "; ".join(fault.line for fault in faults) or None

"""What runs an iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from espdl_quantize.core import Direction, EspdlQuantizeError, Priority, Progress, Strategy
from espdl_quantize.record import Budgets, IterationRecord
from espdl_quantize.setting import Setting


@dataclass(frozen=True)
class BackendFacts:
    """What a backend's iterations have in common; None where it does not say.

    Attributes:
        metric: name of the primary metric.
        direction: whether a larger or a smaller value is better.
        model_name: of the model.
        target_chip: the chip it is quantized for.
        device: that the iterations are computed on, such as "cpu" or "cuda:0".
        target_given: that is another chip than the contract's, because the caller said so.
        esp_dl_version: the version of ESP-DL that is named.
        strategy: that recorded iterations were chosen by; None where any setting can be run.
        contract_path: where the user's module lies.
        target: the value to reach.
        priority: the order of the levers.
        pool: the only settings that can be run; None for no limit.
        final_by: the contract's function of the final score, which the search does not score by;
            None where there is none.
        contract_key: stands for the code and the data of the contract.
        num_of_bits: the contract's default width.
        budgets: what the model may cost and lose; None takes what the iterations carry.
    """

    metric: str | None = None
    direction: Direction | None = None
    model_name: str | None = None
    target_chip: str | None = None
    contract_path: str | None = None
    target: float | None = None
    priority: Priority | None = None
    pool: tuple[Setting, ...] | None = None
    final_by: str | None = None
    contract_key: str | None = None
    num_of_bits: int | None = None
    budgets: Budgets | None = None
    device: str | None = None
    target_given: bool = False
    esp_dl_version: str | None = None
    strategy: Strategy | None = None


class Backend(Protocol):
    """Runs one setting and leaves the folder that says what came of it."""

    @property
    def facts(self) -> BackendFacts:
        """What all iterations have in common."""

    def run(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run ``setting`` into ``folder``, which appears only when it is whole.

        Args:
            setting: what to run.
            folder: where to.
            progress: receives every stage.
            changed: fields of :class:`espdl_quantize.iteration.RunOptions` that are other than
                those of the search; a backend may pass over what it cannot change.

        Returns:
            The record of the iteration.

        Raises:
            EspdlQuantizeError: the iteration failed. Where ``folder`` says so, too, it counts as
                an iteration; where there is no folder, nothing was done.
        """


@runtime_checkable
class ParallelBackend(Backend, Protocol):
    """A backend that runs several iterations at once; what they come to appears one by one."""

    @property
    def slots(self) -> int:
        """How many iterations may run at once."""

    def start(self, setting: Setting, folder: Path, **changed: Any) -> None:
        """Begin an iteration; the arguments are those of :meth:`Backend.run`."""

    def wait(
        self, progress: Progress, notice: Callable[[str], None]
    ) -> tuple[int, EspdlQuantizeError | None]:
        """Wait for one of the iterations that were begun, and put its folder into its place.

        Args:
            progress: receives how far they are.
            notice: receives what the user should know.

        Returns:
            The number of the iteration, and why it failed, as :meth:`Backend.run` raises it.
        """

    def cancel(self) -> None:
        """End all iterations that were begun and have not ended; they leave no folder."""


@runtime_checkable
class AuxiliaryBackend(Backend, Protocol):
    """A backend that can also run beside the search; a recording cannot."""

    def run_auxiliary(
        self, setting: Setting, folder: Path, progress: Progress, **changed: Any
    ) -> IterationRecord:
        """Run ``setting`` into ``folder``, in the place of what is there.

        Args:
            setting: what to run.
            folder: where to.
            progress: receives every stage.
            changed: fields of :class:`espdl_quantize.iteration.RunOptions` that are other than
                those of the search.

        Returns:
            The record of the iteration.

        Raises:
            EspdlQuantizeError: it failed.
        """


class _OneByOne:
    """Any backend, as one that runs a single iteration at a time."""

    slots = 1

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._begun: tuple[Setting, Path, dict[str, Any]] | None = None

    def start(self, setting: Setting, folder: Path, **changed: Any) -> None:
        self._begun = (setting, folder, changed)

    def wait(
        self, progress: Progress, notice: Callable[[str], None]
    ) -> tuple[int, EspdlQuantizeError | None]:
        assert self._begun is not None
        setting, folder, changed = self._begun
        try:
            self._backend.run(setting, folder, progress, **changed)
        except EspdlQuantizeError as error:
            return setting.iteration_id, error
        return setting.iteration_id, None

    def cancel(self) -> None:
        self._begun = None


def parallel(backend: Backend) -> ParallelBackend | _OneByOne:
    """Return a backend as the loop drives it: begin, wait, cancel."""
    return backend if isinstance(backend, ParallelBackend) else _OneByOne(backend)

"""A fast engine that is broken at each of its hooks costs time, and no iteration."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from esp_ppq.quantization.optim.training import (
    LearnedStepSizePass,
    TrainedQuantizationThresholdPass,
)
from numba.core.errors import TypingError

from espdl_quantize.core import Engine, IterationError, Json, NoProgress, is_out_of_memory
from espdl_quantize.iteration import RunOptions, run_iteration
from espdl_quantize.ppq import FallbackRecord, engine_for
from espdl_quantize.ppq.canary import find_difference
from espdl_quantize.ppq.fast import (
    _kernels,
    forwards,
    observer_kernels,
    observers,
    passes,
    writing,
)
from espdl_quantize.ppq.fast.training._collect import Activations
from espdl_quantize.ppq.fast.training.parameters import Parameters
from espdl_quantize.ppq.measure import sweep
from espdl_quantize.ppq.reuse import _memory
from espdl_quantize.setting import parse_setting
from tests.ppq.fast.training.test_block import Blocks
from tests.slow.test_fast_engine import tune_shortly
from tests.slow.test_networks import contract_for

pytestmark = pytest.mark.slow

TQT = {"tqt_optimization": {"enabled": True, "steps": 4, "lr": 1e-3, "block_size": 4}}
BLOCKWISE = {"blockwise_reconstruction": {"enabled": True, "steps": 4, "lr": 1e-3}}
BIAS = {"bias_correct": {"enabled": True}}
CAUSE = "Failed in nopython mode pipeline\nno implementation for the types"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return what makes a function raise at some of its calls, and counts these."""
    # Not among what is counted: the engine's comparison with esp-ppq, before it is first used.
    find_difference()

    def break_at(
        owner: Any,
        name: str,
        at: int = 1,
        error: type[BaseException] = TypingError,
        only: bool = False,
    ) -> list[int]:
        original, calls = getattr(owner, name), [0]

        def failing(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == at or (calls[0] > at and not only):
                raise error(CAUSE)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, failing)
        return calls

    return break_at


class Network:
    """Iterations of one small network by either engine."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._contract = contract_for(kind, "torch", "esp32p4", folder)
        self._folder, self._numbers = folder, itertools.count()

    def run(self, which: Engine, **fields: Any) -> tuple[Json, Path]:
        folder = self._folder / f"outputs_{next(self._numbers)}" / "iter_0"
        setting = parse_setting({"iteration_id": 0, **fields})
        options = RunOptions(engine=which, with_info=True)
        record = run_iteration(self._contract, setting, folder, options, NoProgress())
        return record.to_json(), folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network("residual", tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="module")
def plainly(network: Network) -> Callable[..., tuple[Json, Path]]:
    """Return plain esp-ppq's iteration of a setting, which runs once."""
    known: dict[str, tuple[Json, Path]] = {}

    def run(**fields: Any) -> tuple[Json, Path]:
        key = json.dumps(fields, sort_keys=True)
        if key not in known:
            known[key] = network.run(Engine.REFERENCE, **fields)
        return known[key]

    return run


AGAIN = pytest.mark.matrix
"""Of what fails later than at its first call, where that one is tested."""

Hook = tuple[Any, str, int, str, str]
"""Owner and name of what fails, from which call on, the part and the layer of its record."""

HOOKS: dict[str, tuple[dict[str, Any], list[Hook]]] = {
    # The setting, and the hooks that are broken in one iteration. What fails in one of them keeps
    # no other from being reached.
    "the start": ({}, [(passes, "flush_denormals", 1, "the start of the engine", "")]),
    "one of each": (
        {},
        [
            (passes, "give_back_freed_memory", 1, "a pass", "Pass"),
            (observer_kernels, "histogram_of_sizes", 1, "an observer", "tensor"),
            (_memory, "add_ops", 1, "the reuse of earlier results", "Calibration"),
            (sweep, "statistics_row", 4, "the error analyses", ""),
            (writing, "prepend", 1, "the export", "model.espdl"),
        ],
    ),
    "others": (
        {"calib_algorithm": "mse"},
        [
            (_kernels, "forward_channels", 1, "fake quantization", "Conv"),
            (observer_kernels, "mse_of_range", 3, "an observer", "tensor"),
        ],
    ),
    # What fast observers have found is remembered.
    "a memory": (
        {},
        [
            (_memory, "difference", 1, "the reuse of earlier results", "Calibration"),
            (writing, "repr_of", 2, "the text of the .info file", "weight"),
        ],
    ),
    "percentile": (
        {"calib_algorithm": "percentile"},
        [
            (observers, "order_statistics", 2, "an observer", "tensor"),
            (forwards, "run_ops", 1, "a forward of the graph", ""),
        ],
    ),
    "kernels": ({}, [(_kernels, "forward", 1, "a forward of the graph", "Conv")]),
    "kernels of the analyses": ({}, [(_kernels, "forward", 9, "the error analyses", "/Relu")]),
    "blocks": (BIAS, [(Activations, "get", 2, "collecting the data of a block", "block 1 of")]),
}
LATER: dict[str, tuple[dict[str, Any], list[Hook]]] = {
    "a later pass": ({}, [(passes, "give_back_freed_memory", 5, "a pass", "Pass")]),
    "a later observer": (
        {},
        [(observer_kernels, "histogram_of_sizes", 6, "an observer", "tensor")],
    ),
    "a later forward": ({}, [(forwards, "run_ops", 3, "a forward of the graph", "")]),
    "a later tensor": ({}, [(writing, "prepend", 40, "the export", "model.espdl")]),
    "a later block": (
        BIAS,
        [(Activations, "get", 3, "collecting the data of a block", "block 2 of")],
    ),
}
ALONE = {
    f"{hook[1]} alone": (fields, [hook])
    for fields, hooks in HOOKS.values()
    if len(hooks) > 1
    for hook in hooks
}
CASES = [pytest.param(*case, id=name) for name, case in HOOKS.items()]
CASES += [pytest.param(*case, id=name, marks=AGAIN) for name, case in {**LATER, **ALONE}.items()]


@pytest.mark.parametrize(("fields", "hooks"), CASES)
def test_a_hook_that_fails_costs_no_iteration_and_no_number(
    fields: dict[str, Any], hooks: list[Hook], network: Network, plainly: Any, broken: Any
) -> None:
    plain, plain_folder = plainly(**fields)
    calls = [broken(owner, name, at) for owner, name, at, *_ in hooks]
    index, folder = network.run(Engine.FAST, **fields)

    assert index["status"] == "ok"
    assert len(index["engine_fallbacks"]) <= 5 * len(hooks), "each part is given up after a few"
    for count, (_, name, at, part, layer) in zip(calls, hooks, strict=True):
        assert count[0] >= at, f"{name} was never called so often: nothing is tested"
        records = [one for one in index["engine_fallbacks"] if one["part"] == part]
        assert records, part
        assert layer in records[0]["layer"]
        assert "TypingError" in records[0]["reason"]
        told = [one for one in index["applied_setting_warnings"] if part in one]
        assert told, part
        assert layer in told[0]
    assert index["engine"] == "fast"
    assert index["primary_value"] == plain["primary_value"]
    for file in ("model.espdl", "model.info"):
        assert (folder / file).read_bytes() == (plain_folder / file).read_bytes()
    for file in ("layerwise_error.json", "graphwise_error.json"):
        found, wanted = (json.loads((one / file).read_text()) for one in (folder, plain_folder))
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-11)
        if any(part == "the error analyses" for *_, part, _ in hooks):
            assert found == wanted
    assert CAUSE.splitlines()[1] in (folder / "console.log").read_text()


@pytest.fixture(params=[pytest.param(1, marks=AGAIN), 3])
def at_step(request: pytest.FixtureRequest) -> int:
    return int(request.param)


STEPS = 4
TRAININGS = [
    (Parameters, "step", TrainedQuantizationThresholdPass),
    (_kernels, "backward", TrainedQuantizationThresholdPass),
    # esp-ppq's own training, in which the optimizer fails once.
    (torch.optim.Adam, "step", LearnedStepSizePass),
]


def trained(
    kind: type, engine: Engine, folder: Path
) -> tuple[list[Any], list[FallbackRecord], list[Any]]:
    """Train the first block of a network; return its numbers, the records and the losses."""
    folder.mkdir()
    blocks = Blocks("depthwise", "esp32s3", 4, folder)
    optimization, block, (inputs, outputs) = kind(steps=STEPS), blocks.blocks[0], blocks.data[0]
    with engine_for(engine).install() as installed:
        # An executor keeps what quantizes for it from its first moment on.
        executor = type(blocks.executor)(graph=blocks.graph, device="cpu")
        installed.wrap_pass(optimization)
        torch.manual_seed(0)
        losses = optimization.finetune(
            steps=STEPS,
            learning_rate=1e-4,
            block=block,
            executor=executor,
            qt_inputs=inputs,
            fp_outputs=outputs,
        )
    assert not executor._delegates
    numbers = [
        variable.value for op in block.rps for variable in op.inputs if variable.is_parameter
    ]
    assert not any(number.requires_grad for number in numbers)
    scales = [
        config.scale
        for op in block.rps
        for config, _ in op.config_with_variable
        if isinstance(config.scale, torch.Tensor)
    ]
    return [one.detach().clone() for one in (*numbers, *scales)], installed.records, list(losses)


@pytest.mark.parametrize(("owner", "name", "kind"), TRAININGS)
def test_a_training_that_fails_midway_starts_again_from_clean_weights(
    owner: Any, name: str, kind: type, at_step: int, tmp_path: Path, broken: Any
) -> None:
    wanted, _, wanted_losses = trained(kind, Engine.REFERENCE, tmp_path / "plain")
    is_esp_ppqs = owner is torch.optim.Adam
    calls = broken(owner, name, at_step, only=is_esp_ppqs)
    found, records, losses = trained(kind, Engine.FAST, tmp_path / "fast")

    # Of the fast engine's parts, plain esp-ppq is given none.
    assert calls[0] == at_step + (STEPS if is_esp_ppqs else 0)
    (record,) = records
    assert record.part == "the training of a block"
    assert record.layer == "/stem/Conv to /blocks/blocks.0/pointwise/Conv"
    assert losses == wanted_losses
    assert losses[1] < losses[0], "nothing was trained, and every state is the clean one"
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("fields", "at"),
    [(TQT, 1), pytest.param(TQT, 30, marks=AGAIN), (BIAS, 1), (BLOCKWISE, 30)],
    ids=["tqt", "tqt, later", "bias", "blockwise"],
)
def test_an_engine_without_a_working_kernel_still_trains(
    fields: dict[str, Any],
    at: int,
    network: Network,
    plainly: Any,
    broken: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tune_shortly(monkeypatch)
    plain, plain_folder = plainly(**fields)
    for kernel in ("forward", "backward", "forward_channels", "backward_channels"):
        broken(_kernels, kernel, at)
    index, folder = network.run(Engine.FAST, **fields)
    assert index["status"] == "ok"
    assert index["engine_fallbacks"]
    assert index["primary_value"] == pytest.approx(plain["primary_value"], rel=1e-2)
    found, wanted = (
        json.loads((one / "layerwise_error.json").read_text()) for one in (folder, plain_folder)
    )
    assert found.keys() == wanted.keys()


def test_one_block_that_fails_is_named_and_the_others_stay_fast(
    network: Network, broken: Any
) -> None:
    calls = broken(Parameters, "step", at=6, only=True)
    index, _ = network.run(Engine.FAST, **TQT)
    (record,) = index["engine_fallbacks"]
    assert record["part"] == "the training of a block"
    assert record["layer"].startswith("block 2 of ")
    assert calls[0] > 6


def test_what_plain_esp_ppq_cannot_do_either_is_its_own_fault_and_is_run_once(
    network: Network, broken: Any
) -> None:
    broken(Parameters, "step")
    # Of esp-ppq's own training alone.
    plain_calls = broken(TrainedQuantizationThresholdPass, "compute_block_loss", error=ValueError)
    message = r"^esp-ppq's pass 'tqt' fails at the block .*: ValueError: "
    with pytest.raises(IterationError, match=message):
        network.run(Engine.FAST, **TQT)
    assert plain_calls[0] == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [(MemoryError, "memory is too short to run the pass"), (KeyboardInterrupt, "no impl")],
)
def test_too_little_memory_and_an_interrupt_are_no_reason_for_a_second_try(
    error: type[BaseException], said: str, network: Network, monkeypatch: Any, broken: Any
) -> None:
    calls = broken(Parameters, "step", error=error)
    plain_calls = broken(TrainedQuantizationThresholdPass, "finetune")
    with pytest.raises((IterationError, KeyboardInterrupt), match=said) as caught:
        network.run(Engine.FAST, **TQT)
    assert calls[0] == 1
    assert plain_calls[0] == 0
    assert is_out_of_memory(caught.value) == (error is MemoryError)


def test_a_full_disk_is_told_at_once(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sweep, "statistics_row", full)
    with pytest.raises(IterationError, match="is full"):
        network.run(Engine.FAST)


def test_a_fault_of_this_program_is_not_put_down_to_esp_ppq(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(NoProgress):
        def update(self, done: float, total: float | None, detail: str = "") -> None:
            if "block" in detail:
                raise ZeroDivisionError

    folder = network._folder / "faulty" / "iter_0"
    setting = parse_setting({"iteration_id": 0, **TQT})
    with pytest.raises(IterationError, match=r"^espdl-quantize itself fails to run the pass"):
        run_iteration(network._contract, setting, folder, RunOptions(), Faulty())


def test_a_forward_that_the_caller_got_wrong_is_esp_ppqs_error_and_costs_no_speed(
    tmp_path: Path, broken: Any
) -> None:
    blocks = Blocks("depthwise", "esp32s3", 4, tmp_path)
    runs = broken(forwards, "run_ops", at=10**9)
    with engine_for(Engine.FAST).install() as installed:
        executor = type(blocks.executor)(graph=blocks.graph, device="cpu")
        with pytest.raises(RuntimeError, match="Op Execution Error"):
            executor.forward(torch.zeros(1, 7, 28, 28))
        executor.forward(torch.zeros(1, 1, 28, 28))
    assert not installed.records
    assert runs[0] == 2

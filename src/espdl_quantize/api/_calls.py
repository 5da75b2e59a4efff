"""The functions: check, quantize, tune, load, and forward for an evaluation."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espdl_quantize.api._results import CheckResult, Diff, Result
from espdl_quantize.api.arguments import (
    ESP_DL_VERSION,
    contract_path,
    count_of,
    engine_of,
    folder_of,
    refuse_unknown,
    seed_of,
    strategy_of,
    version_of,
)
from espdl_quantize.api.progress import Bar
from espdl_quantize.contract import (
    Batch,
    Contract,
    Overrides,
    contract_of_objects,
    load_contract,
)
from espdl_quantize.core import Engine, NoProgress, UsageError
from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
from espdl_quantize.iteration import Prepared, RunOptions, captured, run_iteration
from espdl_quantize.ppq import check_installation, forwards, target_names
from espdl_quantize.record import History, Iteration, iteration_folder, read_history
from espdl_quantize.record.files import LOG
from espdl_quantize.report import diff_folders
from espdl_quantize.setting import Setting, baseline, load_setting, parse_setting
from espdl_quantize.tuning import (
    Backend,
    Budget,
    IsolatedBackend,
    RayBackend,
    RealBackend,
    TuneOptions,
    check_chip,
    parse_duration,
)
from espdl_quantize.tuning import tune as search

if TYPE_CHECKING:
    from torch import Tensor

Evaluation = Callable[[Any], Any]
_PARTS = "metric", "collate", "evaluate_final"


def check(
    contract: str | Path | None = None,
    *,
    model: Any = None,
    calibration: Any = None,
    evaluate: Evaluation | None = None,
    target: str | None = None,
    score: bool = True,
    progress: bool = True,
    **more: Any,
) -> CheckResult:
    """Examine a contract, and name every fault that can be known before anything long runs.

    Args:
        contract: the path of a contract file; else the objects:
        model: a ``torch.nn.Module`` or the path of an ONNX file.
        calibration: a DataLoader, a list of batches, or a function that returns such a thing.
        evaluate: is given the graph and returns a number, or a dict of metrics; see
            :func:`forward`.
        target: the chip, such as "esp32s3"; with a contract file, in the place of its own.
        score: call ``evaluate`` on the float model.
        progress: show the stages.
        more: as of :func:`tune`.

    Returns:
        The findings. It is true where none is a fault.

    Raises:
        UsageError: a contract and objects are given, or neither.
    """
    with (
        tempfile.TemporaryDirectory(prefix="espdl-quantize-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        shown = stack.enter_context(Bar()) if progress else NoProgress()
        stack.enter_context(captured(Path(scratch) / LOG))
        context = GateContext(Path(), Path(scratch), GateOptions(score=score), shown)
        made = _contract(contract, model, calibration, evaluate, target, more)
        if isinstance(made, Contract):
            context.path, context.contract = made.path, made
            context.prepared = Prepared(made, context.scratch)
        else:
            context.path = made
            overrides = Overrides(target=target, esp_dl_version=version_of(more))
            context.options = replace(context.options, overrides=overrides)
        return CheckResult(examine(context, STAGES))


def tune(
    contract: str | Path | None = None,
    *,
    model: Any = None,
    calibration: Any = None,
    evaluate: Evaluation | None = None,
    target: str | None = None,
    outputs: str | Path | None = None,
    iterations: int | None = None,
    time: str | float | None = None,
    strategy: str | None = None,
    policy: str = "evidence",
    seed: int = 0,
    ignore_plateau: bool = False,
    engine: str = Engine.FAST,
    final: bool = True,
    parallel: int | None = None,
    ray: str | None = None,
    progress: bool = True,
    **more: Any,
) -> Result:
    """Search for the setting with the best accuracy, until a budget or a reason to stop.

    The output folder is the only state: the same call goes on where an earlier one ended, was
    interrupted or killed. With objects, everything runs in this process, so that functions of a
    notebook work; a crash of the model's code then ends this process, too. A contract file runs in
    a process of its own.

    Args:
        contract: the path of a contract file; else the objects:
        model: a ``torch.nn.Module``, or the path of an ONNX file.
        calibration: a DataLoader, a list of batches, or a function that returns such a thing. Of a
            batch with more parts than the model has inputs, the first ones are the inputs.
        evaluate: is given the graph and returns a number, or a dict of metrics; see
            :func:`forward`.
        target: the chip, such as "esp32s3"; with a contract file, in the place of its own.
        outputs: the folder of the search; without it ``outputs``, or ``outputs-<target>`` where a
            contract file is given another chip.
        iterations: how many this call may run.
        time: how long this call may take: seconds, or such as "20m" or "1h30m".
        strategy: whose rules decide the next step, "seed" or "swift"; None for the one that the
            output folder names, and "swift" where it names none.
        policy: who explores once the strategy is through: "evidence" or "optuna".
        seed: of every random generator.
        ignore_plateau: go on where the metric has stopped moving.
        engine: "fast", or "reference" for plain esp-ppq.
        final: score best and the baseline by evaluate_final at the end, where there is one.
        parallel: run up to so many iterations at once, on Ray (the extra ``ray``); of a contract
            file.
        ray: address of the cluster, such as "auto"; None starts a Ray on this machine.
        progress: show how far it is.
        more: with objects, ``metric`` (the key of evaluate()'s dict), ``collate``,
            ``evaluate_final``, and any key of QUANT_CONFIG: metric_direction ("max"),
            target_metric, num_of_bits (8), device ("cpu"), input_shape, batch_size, calib_steps,
            model_name, ... Of these ``esp_dl_version``, of the ESP-DL on the chip ("3.3.9"), goes
            with a contract file, too.

    Returns:
        The iterations, ranked; ``result.model`` is the best .espdl file.

    Raises:
        UsageError: a contract and objects are given, or neither; a budget is none; objects are to
            run at once.
        InstallationError: Ray is not installed, or cannot be reached.
        ContractError: the contract has a fault.
        OutputFolderError: the folder is another search's, is in use, or cannot be written.
        IterationError: no iteration has a score, or the same failure came again and again.
        KeyboardInterrupt: the user interrupted it; :func:`load` shows what there is.
    """
    seconds = parse_duration(str(time)) if time is not None else None
    options = TuneOptions(
        Budget(count_of(iterations), seconds),
        strategy=None if strategy is None else strategy_of(strategy),
        policy=policy,
        seed=seed_of(seed),
        ignore_plateau=ignore_plateau,
        final=final,
    )
    run_options = RunOptions(seed=seed_of(seed), engine=engine_of(engine))
    folder = folder_of(outputs, contract, target)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar()) if progress else None
        with captured(Path(os.devnull)):
            made = _contract(contract, model, calibration, evaluate, target, more)
        backend: Backend
        _check_parallel(made, parallel, ray)
        if isinstance(made, Contract):
            backend = RealBackend(made, run_options)
        else:
            overrides = Overrides(target=target, esp_dl_version=version_of(more))
            if parallel is None:
                isolated = IsolatedBackend(made, run_options, overrides=overrides)
                backend = stack.enter_context(isolated)
            else:
                at_once = RayBackend(
                    made, run_options, slots=parallel, address=ray, overrides=overrides
                )
                backend = stack.enter_context(at_once)
        ended = search(backend, folder, options, observer=bar, progress=bar)
    return Result.of(folder, (ended.category, ended.detail))


def quantize(
    setting: Setting | Mapping[str, Any] | str | Path | None = None,
    contract: str | Path | None = None,
    *,
    model: Any = None,
    calibration: Any = None,
    evaluate: Evaluation | None = None,
    target: str | None = None,
    outputs: str | Path | None = None,
    seed: int = 0,
    engine: str = Engine.FAST,
    progress: bool = True,
    **more: Any,
) -> Iteration:
    """Run one iteration with a setting: quantize, analyse, export, score.

    Args:
        setting: a dict such as ``{"calib_algorithm": "minmax"}``, or the path of its file, which
            may be a quant_setting.json that esp-ppq saved; None
            for the baseline.
        contract: as of :func:`tune`, like everything that is not named here.
        model: see there.
        calibration: see there.
        evaluate: see there.
        target: see there.
        outputs: the folder of the search; the iteration becomes the next one in it.
        seed: of every random generator.
        engine: "fast", or "reference" for plain esp-ppq.
        progress: show how far it is.
        more: see there.

    Returns:
        The iteration: ``value``, ``setting``, ``warnings``; its files are in ``folder``.

    Raises:
        UsageError: a contract and objects are given, or neither.
        SettingError: the setting is not valid.
        EspdlQuantizeError: the iteration failed; its folder says why.
    """
    folder = folder_of(outputs, contract, target)
    with contextlib.ExitStack() as stack:
        bar: Any = stack.enter_context(Bar()) if progress else None
        with captured(Path(os.devnull)):
            made = _contract(contract, model, calibration, evaluate, target, more)
            if isinstance(made, Contract):
                loaded = made
            else:
                overrides = Overrides(target=target, esp_dl_version=version_of(more))
                loaded = load_contract(made, target_names(), overrides)
        chosen = _setting(setting, loaded.config.num_of_bits)
        history = read_history(folder) if folder.is_dir() else History()
        check_chip(history, loaded.config.target)
        place = iteration_folder(folder, history.next_id)
        options = RunOptions(seed=seed_of(seed), engine=engine_of(engine))
        run_iteration(loaded, chosen, place, options, bar or NoProgress())
    history = read_history(folder)
    return next(each for each in history.iterations if each.folder == place)


def load(outputs: str | Path = "outputs") -> Result:
    """Read the output folder of a search, whoever ran it.

    Raises:
        OutputFolderError: it cannot be read.
    """
    return Result.of(Path(outputs).absolute())


def diff(first: str | Path, second: str | Path) -> Diff:
    """Compare two output folders: two chips, two models, or a model of two dates.

    Raises:
        OutputFolderError: one of them cannot be read.
    """
    return Diff(diff_folders(Path(first), Path(second)))


def forward(graph: Any, batches: Iterable[Any], *, device: str = "cpu") -> Iterator[list[Tensor]]:
    """Run the graph that evaluate() is given, float or quantized, on batch after batch.

    ::

        def evaluate(graph):
            right = total = 0
            for (logits,), labels in zip(eq.forward(graph, images), labels):
                right += (logits.argmax(1) == labels).sum().item()
                total += len(labels)
            return 100 * right / total

    Args:
        graph: what evaluate() received.
        batches: of each the inputs: a tensor ``[batch, ...]``, a list of them in the order of the
            graph's inputs, or a dict by input name.
        device: of the search.

    Yields:
        The outputs of each batch, in the order of the graph's outputs.

    Raises:
        TypeError: a batch is none.
    """
    yield from forwards(graph, map(Batch.of, batches), device)


def _contract(
    contract: str | Path | None,
    model: Any,
    calibration: Any,
    evaluate: Evaluation | None,
    target: str | None,
    more: Mapping[str, Any],
) -> Contract | Path:
    """Return the contract that objects make, or the path of the file that is one."""
    objects = {"model": model, "calibration": calibration, "evaluate": evaluate} | dict(more)
    given = [
        name for name, value in objects.items() if value is not None and name != ESP_DL_VERSION
    ]
    if contract is not None:
        path = contract_path(contract)
        if given:
            raise UsageError(
                f"a contract file and {', '.join(given)} are given: the file says all of it",
                "give one of them",
            )
        return path.absolute()
    if model is None or calibration is None or target is None:
        missing = [
            name
            for name, value in (("model", model), ("calibration", calibration), ("target", target))
            if value is None
        ]
        raise UsageError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            "give the path of a contract file, or model=, calibration=, evaluate= and target=",
        )
    check_installation()
    parts = {name: more[name] for name in _PARTS if name in more}
    config = {name: value for name, value in more.items() if name not in parts}
    made = contract_of_objects(
        model,
        calibration,
        evaluate,
        target_names(),
        config={"num_of_bits": 8, "device": "cpu", **config, "target": target},
        **parts,
    )
    refuse_unknown(made.ignored_keys, (*_PARTS, *inspect.signature(tune).parameters))
    return made


def _check_parallel(made: Contract | Path, parallel: int | None, ray: str | None) -> None:
    """Refuse iterations at once where they cannot be.

    Raises:
        UsageError: the objects are of this process, or an address is given alone.
    """
    if isinstance(made, Contract) and (parallel is not None or ray is not None):
        raise UsageError(
            "objects of this process cannot run at once in others",
            "give the path of a contract file, or leave out parallel",
        )
    if ray is not None and parallel is None:
        raise UsageError("ray is an address, and not how many run at once", "give parallel, too")


def _setting(setting: Setting | Mapping[str, Any] | str | Path | None, num_of_bits: int) -> Setting:
    if setting is None:
        return baseline(num_of_bits=num_of_bits)
    if isinstance(setting, Setting):
        return setting
    if isinstance(setting, Mapping):
        return parse_setting({"iteration_id": 0, **setting})
    return load_setting(Path(setting))

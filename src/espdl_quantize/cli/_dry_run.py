"""``--dry-run`` of ``run`` and ``tune``: what would be run, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espdl_quantize.cli._backend import load
from espdl_quantize.cli._paths import whole
from espdl_quantize.cli.terminal import say
from espdl_quantize.contract import Overrides
from espdl_quantize.core import Hint, Option, OutputFolderError, dumps
from espdl_quantize.iteration import RunOptions
from espdl_quantize.record import History, is_finished, iteration_number, read_history
from espdl_quantize.report import lint
from espdl_quantize.search import TimeEstimate, TimeModel, describe_changes
from espdl_quantize.setting import Setting, baseline, load_setting, resolve, with_calibration
from espdl_quantize.tuning import Backend, Preview, TuneOptions, check_chip, preview


def preview_iteration(
    contract_path: Path,
    folder: Path,
    setting_path: Path | None,
    options: RunOptions,
    *,
    overrides: Overrides,
    as_json: bool,
) -> None:
    """Print what ``run`` would run, with the rules applied and an estimate.

    Raises:
        EspdlQuantizeError: what would be refused before anything runs.
    """
    from espdl_quantize.ppq import prepare_device, probe_target

    contract_path, folder = whole(contract_path), whole(folder).resolve()
    number = iteration_number(folder)
    setting = baseline(num_of_bits=None) if setting_path is None else load_setting(setting_path)
    if number is not None:
        setting = setting.model_copy(update={"iteration_id": number})
    contract = load(contract_path, overrides)
    config = contract.config
    prepare_device(config.device)
    setting = with_calibration(setting, config.num_of_bits)
    target = probe_target(config.target, config.num_of_bits)
    resolved = resolve(setting, target, config.device, esp_dl=config.esp_dl)
    if is_finished(folder) and not options.overwrite:
        raise OutputFolderError(
            f"{folder} holds a finished iteration",
            Hint(
                "give another ",
                Option.OUTPUT_DIR,
                ", or pass ",
                Option.OVERWRITE.of(True),
                " to replace it",
            ),
        )
    outputs = folder.parent
    there = outputs.is_dir()
    history = read_history(outputs) if there else History((), outputs)
    if number is not None:
        check_chip(history, config.target, but=folder)
    best = history.best
    warnings = list(resolved.warnings)
    if (
        there
        and history.iterations
        and number not in {earlier.id for earlier in history.iterations}
    ):
        warnings += map(str, lint(outputs, setting))
    estimate = TimeModel(history).estimate(setting)
    facts = {
        "ok": True,
        "dry_run": True,
        "contract": str(contract.path),
        "model_name": contract.model_name,
        "target_chip": config.target,
        "folder": str(folder),
        "replaces": folder.exists(),
        "setting": setting.model_dump(exclude_unset=True),
        "resolved_setting": resolved.setting.model_dump(exclude_none=True),
        "warnings": warnings,
        "best_iteration": None if best is None else best.id,
        "changes_to_best": None if best is None else describe_changes(best.setting, setting),
        **_seconds(estimate),
    }
    if as_json:
        print(dumps(facts), end="")
        return
    say(f"would run iteration {setting.iteration_id}: {contract.model_name} on {config.target}")
    say(f"folder: {folder}" + (" (replaced)" if facts["replaces"] else ""))
    if best is not None:
        say(f"against best ({best.name}): {facts['changes_to_best']}")
    say(f"setting: {dumps(facts['setting']).rstrip()}")
    for warning in warnings:
        say(f"warning: {warning}")
    say(f"takes: {_tell(estimate)}")
    print("nothing was written")


def preview_search(
    backend: Backend,
    outputs: Path,
    options: TuneOptions,
    *,
    as_json: bool,
    shown_as: Path | None = None,
) -> None:
    """Print what ``tune`` would do first and what it expects after that.

    Raises:
        EspdlQuantizeError: what would be refused before anything runs.
    """
    previewed = preview(backend, outputs, options)
    if as_json:
        print(dumps(_search_as_json(previewed, options)), end="")
        return
    count = len(previewed.history.iterations)
    outputs = shown_as or outputs
    say(f"{outputs}: {count} iterations" if count else f"{outputs}: no iterations yet")
    for notice in previewed.notices:
        say(f"note: {notice}")
    proposal = previewed.proposal
    if proposal is None:
        say(f"would run nothing: {previewed.stop}")
    else:
        setting = proposal.setting
        say(f"would run iter_{setting.iteration_id}: {proposal.phase} | {proposal.pattern}")
        say(f"setting: {dumps(_save(setting)).rstrip()}")
        say(f"takes: {_tell(previewed.estimate)}")
        print("\n".join(["expected:", *previewed.plan.lines()]))
    print("nothing was written")


def _search_as_json(previewed: Preview, options: TuneOptions) -> dict[str, Any]:
    proposal = previewed.proposal
    return {
        "ok": True,
        "dry_run": True,
        "output_dir": str(previewed.history.folder.resolve()),
        "iterations": len(previewed.history.iterations),
        "budget": {"iterations": options.budget.iterations, "seconds": options.budget.seconds},
        "next": None
        if proposal is None
        else {
            "phase": proposal.phase,
            "what": proposal.pattern,
            "setting": _save(proposal.setting),
        },
        **_seconds(previewed.estimate),
        "plan": [
            {
                "name": step.name,
                "iterations": step.iterations,
                "at_most": step.at_most,
                **_seconds(step.time),
            }
            for step in previewed.plan.steps
        ],
        "stop": previewed.stop or None,
        "notices": list(previewed.notices),
    }


def _save(setting: Setting) -> dict[str, Any]:
    return setting.model_dump(exclude_none=True)


def _seconds(estimate: TimeEstimate | None) -> dict[str, Any]:
    return {
        "estimated_seconds": None if estimate is None else estimate.seconds,
        "estimate_is_complete": None if estimate is None else estimate.complete,
    }


def _tell(estimate: TimeEstimate | None) -> str:
    return str(estimate) if estimate is not None else "unknown: no iteration was measured yet"

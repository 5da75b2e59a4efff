"""Makes an iteration's model again, and holds the file that it left against it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.chip import ChipCheck, check_model
from espdl_quantize.contract import Contract
from espdl_quantize.core import Engine, Json, OutputFolderError, Progress, Stage
from espdl_quantize.iteration._console import captured
from espdl_quantize.iteration._prepared import Prepared
from espdl_quantize.ppq import (
    check_installation,
    engine_for,
    export,
    prepare_device,
    probe_target,
    quantize,
    seed_everything,
)
from espdl_quantize.record import read_record
from espdl_quantize.record.files import LOG, MODEL, SETTING
from espdl_quantize.setting import fit_to_model, load_setting, resolve
from espdl_quantize.targets.ops import parse_version


@dataclass(frozen=True)
class Verification:
    """What is known of an iteration's file.

    Attributes:
        file: which one.
        same_file: making the model again gives the same bytes.
        check: the rules, and the integers of that very file.
        engine_warnings: what plain esp-ppq did for the fast engine when the model was made again.
    """

    file: Path
    same_file: bool
    check: ChipCheck
    engine_warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the file."""
        return self.same_file and self.check.legality.legal and not [*self.check.warnings()]

    def as_json(self) -> Json:
        """Return it as plain data."""
        return {
            "holds": self.holds,
            "file": str(self.file),
            "same_file": self.same_file,
            "warnings": [*self.check.warnings(), *self.engine_warnings],
            **self.check.as_json(),
        }


def verify_iteration(
    contract: Contract, folder: Path, samples: int, progress: Progress
) -> Verification:
    """Quantize once more with an iteration's setting and seed, and check the file in its folder.

    Args:
        contract: the one that the iteration was run with.
        folder: an iteration's folder, or best/.
        samples: calibration samples whose integers are computed.
        progress: notified of every stage.

    Raises:
        OutputFolderError: the folder holds no whole iteration with a model.
        EspdlQuantizeError: the setting cannot be run any more.
    """
    folder = Path(folder).absolute()
    record, file, config = read_record(folder), folder / MODEL, contract.config
    if not file.is_file():
        raise OutputFolderError(f"{folder} has no {MODEL}", "verify an iteration that went well")
    if record.target_chip != config.target:
        raise OutputFolderError(
            f"{file} was made for {record.target_chip!r}, and the contract says {config.target!r}",
            "give the contract that it was made with",
        )
    seed, engine = record.seed or 0, engine_for(record.engine or Engine.FAST)
    with tempfile.TemporaryDirectory() as scratch, Prepared(contract) as prepared:
        fresh = Path(scratch) / MODEL
        with captured(Path(scratch) / LOG), engine.install():
            check_installation()
            prepare_device(config.device)
            target = probe_target(config.target, config.num_of_bits)
            made_for = record.esp_dl_version
            esp_dl = None if made_for is None else parse_version(made_for)
            resolved = resolve(load_setting(folder / SETTING), target, config.device, esp_dl=esp_dl)
            seed_everything(seed)
            with progress.stage(Stage.READ_CALIBRATION):
                batches, _ = prepared.batches(seed, lambda done, total: None)
            with progress.stage(Stage.PREPARE_FLOAT_MODEL):
                model, float_graph = prepared.float_model(batches[0])
                ops = {op.name: op.type for op in float_graph.operations.values()}
                resolved = fit_to_model(resolved, ops, target, esp_dl=esp_dl)
            with progress.stage(Stage.QUANTIZE):
                made = quantize(
                    model, config, resolved, batches, progress, engine=engine, seed=seed
                )
            with progress.stage(Stage.EXPORT):
                layouts = export(made, fresh, engine=engine)
            with progress.stage(Stage.CHECK_MODEL):
                check = check_model(
                    file,
                    config.target,
                    None if made.setting.streaming else made.graph,
                    layouts,
                    batches,
                    config.device,
                    samples,
                    engine=engine,
                    esp_dl=config.esp_dl or esp_dl,
                )
        same = fresh.read_bytes() == file.read_bytes()
        return Verification(file, same, check, tuple(engine.warnings))

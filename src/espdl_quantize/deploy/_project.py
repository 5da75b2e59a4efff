"""Writes a minimal ESP-IDF project that runs a model, tests it and measures it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espdl_quantize.chip import ChipModel, check_legality, chip_facts
from espdl_quantize.chip.cost import UnplannableModelError, parameter_bytes, plan_memory
from espdl_quantize.core import (
    EspdlQuantizeError,
    Hint,
    IterationError,
    Json,
    Option,
    OutputFolderError,
    UsageError,
    read_json,
)
from espdl_quantize.deploy._card import describe, whole_card
from espdl_quantize.deploy._chips import ESP_DL, Board, board_of, sdkconfig
from espdl_quantize.deploy.header import c_string, header
from espdl_quantize.record import read_record
from espdl_quantize.record.files import CARD, DESCRIPTION, INDEX, MODEL, TEST_MODEL
from espdl_quantize.targets.ops import Version, supported_version, version_text

_TEMPLATES = Path(__file__).parent / "templates"
_KIB, _MIB = 1 << 10, 1 << 20
_RODATA = _MIB
"""Bytes of a model up to which it is built into the program; a larger one gets a partition of its
own, which is flashed on its own."""
_APP = {2: 1536 * _KIB, 4: 2 * _MIB}
"""Bytes of the program's partition without a model, by the flash's MiB; 3 MiB where there is more.
"""
_FIRST = 0x10000
"""Where the first partition may begin."""
_BLOCK = 64 * _KIB
_FLASHES = (2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class ProjectOptions:
    """What a project is for, where it is not a usual board.

    Attributes:
        chip: build for this chip; else for the one that the model was exported for.
        esp_dl: the version of ESP-DL, such as "3.3.9"; else the one that the model was made for,
            and else the one that this program was held against.
        flash_mib: flash of the board; else as on a usual one.
        psram_mib: PSRAM of the board, 0 for none; else as on a usual one.
    """

    chip: str | None = None
    esp_dl: str | None = None
    flash_mib: int | None = None
    psram_mib: int | None = None


@dataclass(frozen=True)
class Project:
    """A project that was written.

    Attributes:
        folder: where it is.
        source: the iteration's folder whose model is in it.
        chip: what it builds for.
        esp_dl: the version of ESP-DL.
        place: "rodata" or "partition".
        has_test_values: whether the board can test the model.
        copies_parameters: whether weights are copied from flash into RAM.
        notes: what the reader should know.
    """

    folder: Path
    source: Path
    chip: str
    esp_dl: str
    place: str
    has_test_values: bool
    copies_parameters: bool
    notes: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """Return it as plain data."""
        return {
            "project": str(self.folder),
            "source": str(self.source),
            "chip": self.chip,
            "esp_dl": self.esp_dl,
            "model_in": self.place,
            "has_test_values": self.has_test_values,
            "copies_parameters": self.copies_parameters,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Plan:
    """Where everything goes."""

    board: Board
    flash_mib: int
    psram_mib: int
    in_partition: bool
    copies_parameters: bool
    app_bytes: int
    model_bytes: int


def write_project(source: Path, project: Path, options: ProjectOptions | None = None) -> Project:
    """Write a project for an iteration's model into a new or empty folder.

    Args:
        source: an iteration's folder, or best/.
        project: where to write.
        options: what is not as usual.

    Raises:
        UsageError: the chip or the board makes no sense.
        ContractError: the version is none, or one that esp-ppq does not export for.
        OutputFolderError: the folder is taken or cannot be written; or the iteration has no model.
        IterationError: the model is illegal on its chip, or does not fit on the board.
        EspdlQuantizeError: the iteration's index is of no use.
    """
    options = options or ProjectOptions()
    named = None if options.esp_dl is None else supported_version(options.esp_dl)
    _check_free(project)
    record = read_record(source)
    if named is None and record.esp_dl_version is not None:
        named = supported_version(record.esp_dl_version)
    esp_dl = ESP_DL if named is None else version_text(named)
    target = record.target_chip
    if target is None:
        raise EspdlQuantizeError(
            f"{source / INDEX} names no chip that it was made for",
            "give the folder of an iteration that this program ran",
        )
    board = board_of(target, options.chip)
    file, model, notes = _model(source, target, named)
    plan, planned_notes = _plan(board, file, model, options)
    notes += planned_notes + _too_new(model, esp_dl)
    card = _card(source, model, target)
    files = {
        "CMakeLists.txt": _CMAKE,
        "README.md": _readme(card, plan, esp_dl, notes, has_tests=bool(model.test_inputs)),
        "partitions.csv": _partitions(plan),
        "sdkconfig.defaults": "\n".join(sdkconfig(board, plan.flash_mib, plan.psram_mib)) + "\n",
        ".gitignore": "build/\nmanaged_components/\nsdkconfig\nsdkconfig.old\n",
        "main/CMakeLists.txt": _MAIN_IN_PARTITION if plan.in_partition else _MAIN_IN_RODATA,
        "main/idf_component.yml": _manifest(esp_dl, board.esp_idf),
        "main/main.cpp": (_TEMPLATES / "main.cpp").read_text(encoding="utf-8"),
        "main/model_io.h": header(
            card,
            board.chip,
            chip_facts(target).rounding,
            {
                "MODEL_ESP_DL": c_string(esp_dl),
                "MODEL_ITERATION": str(record.id),
                "MODEL_IN_PARTITION": str(int(plan.in_partition)),
                "MODEL_HAS_TEST_VALUES": str(int(bool(model.test_inputs))),
                "MODEL_COPY_PARAMETERS": "true" if plan.copies_parameters else "false",
            },
        ),
    }
    _write(project, files, file)
    return Project(
        project,
        source,
        board.chip,
        esp_dl,
        "partition" if plan.in_partition else "rodata",
        bool(model.test_inputs),
        plan.copies_parameters,
        tuple(notes),
    )


def _model(source: Path, target: str, esp_dl: Version | None) -> tuple[Path, ChipModel, list[str]]:
    """Read the model back; nothing that is damaged or illegal goes into a project."""
    notes = []
    file = source / TEST_MODEL
    if not file.is_file():
        file = source / MODEL
        notes.append(
            f"{source} has no {TEST_MODEL}, so that the board cannot test the model; run the "
            "iteration again to record test values"
        )
    if not file.is_file():
        raise OutputFolderError(f"{source} has no {MODEL}", "deploy an iteration that went well")
    legality = check_legality(file, target, esp_dl=esp_dl)
    if legality.model is None or not legality.legal:
        fault = legality.faults[0]
        where = f"op {fault.op!r} ({fault.op_type}): " if fault.op else ""
        raise IterationError(
            f"{file} cannot go on {target}: {where}{fault.cause}",
            "deploy another iteration, or run this one again",
        )
    return file, legality.model, notes


def _card(source: Path, model: ChipModel, target: str) -> Json:
    """Return what the file says, with the scores and the layouts that the iteration recorded.

    Of what anybody may have edited, only the names of layouts are taken.
    """
    # The digest of the model itself, not of the copy with test values, is what a log is matched by.
    file = source / MODEL if (source / MODEL).is_file() else source / TEST_MODEL
    card = describe(file, model, {}, target)
    recorded = whole_card(source)
    if recorded is None and (source / DESCRIPTION).is_file() and not (source / CARD).is_file():
        recorded = read_json(source / DESCRIPTION)
    for kind in ("inputs", "outputs"):
        tensors = recorded.get(kind) if recorded else None
        layouts = {
            tensor["name"]: tensor.get("layout")
            for tensor in (tensors if isinstance(tensors, list) else [])
            if isinstance(tensor, dict) and isinstance(tensor.get("name"), str)
        }
        for entry in card[kind]:
            layout = layouts.get(entry["name"])
            entry["layout"] = layout if isinstance(layout, str) else None
    for key in ("model_name", "metric", "float_score", "quantized_score"):
        card[key] = recorded.get(key) if recorded else None
    return card


def _plan(
    board: Board, file: Path, model: ChipModel, options: ProjectOptions
) -> tuple[_Plan, list[str]]:
    flash = board.flash_mib if options.flash_mib is None else options.flash_mib
    psram = board.psram_mib if options.psram_mib is None else options.psram_mib
    if flash not in _FLASHES:
        raise UsageError(f"flash is {flash} MiB", f"ESP-IDF knows {', '.join(map(str, _FLASHES))}")
    if psram < 0:
        raise UsageError(f"psram is {psram} MiB", "give 0 for a board without PSRAM")
    if psram and not board.takes_psram:
        raise UsageError(
            f"psram is {psram} MiB, and {board.chip} takes none", Hint("give ", Option.PSRAM.of(0))
        )
    size = file.stat().st_size
    space = -(-(size + 1) // _BLOCK) * _BLOCK
    app = _APP.get(flash, 3 * _MIB)
    if _FIRST + app + space > flash * _MIB:
        raise IterationError(
            f"the model has {size // _KIB} KiB and the program needs about {app // _KIB} KiB, more "
            f"than the {flash} MiB of flash of the board",
            Hint("give ", Option.FLASH, " with what your board has, or deploy a smaller model"),
        )
    notes: list[str] = []
    parameters = parameter_bytes(model)
    try:
        activations = plan_memory(model).total
    except UnplannableModelError as error:
        activations = 0
        notes.append(f"how much memory its activations need cannot be told: {error.cause}")
    ram = psram * _MIB + board.sram_kib * _KIB
    if activations > ram:
        lacks = "which has no PSRAM" if not psram else f"with {psram} MiB of PSRAM"
        raise IterationError(
            f"the model needs {activations // _KIB} KiB for its activations, and "
            f"{board.chip}, {lacks}, has {ram // _KIB} KiB in all",
            Hint(
                "give ",
                Option.PSRAM,
                " with what your board has, take a chip with PSRAM, or a smaller input",
            ),
        )
    copies = bool(psram) and activations + parameters <= psram * _MIB
    if not copies:
        notes.append(
            f"the {parameters // _KIB} KiB of weights stay in flash, which is slower: the board "
            + ("has no PSRAM" if not psram else f"has {psram} MiB of PSRAM")
        )
    if not psram and activations > board.sram_kib * _KIB // 2:
        notes.append(
            f"the activations need {activations // _KIB} KiB of the {board.sram_kib} KiB "
            f"inside {board.chip}, of which the system takes a part: it may not load"
        )
    return _Plan(board, flash, psram, size > _RODATA, copies, app, space), notes


def _too_new(model: ChipModel, esp_dl: str) -> list[str]:
    """Name what ESP-DL 3.3.9 does not have, where the project is to be built with that."""
    if esp_dl != ESP_DL:
        return []
    new = sorted(
        {"Attention" for node in model.nodes if node.op_type == "Attention"}
        | {"W8A16" for node in model.nodes if node.width == "W8A16"}
    )
    return [
        Hint(
            f"ESP-DL {ESP_DL} does not know {name}: the model will not load; give ",
            Option.ESP_DL_VERSION,
            " with a later one",
        )
        for name in new
    ]


def _check_free(project: Path) -> None:
    try:
        taken = os.path.lexists(project) and (not project.is_dir() or any(project.iterdir()))
    except OSError as error:
        raise OutputFolderError(f"{project} cannot be read: {error.strerror or error}") from error
    if taken:
        raise OutputFolderError(
            f"{project} exists and is not an empty folder; nothing was written",
            Hint("give another ", Option.PROJECT, ", or move it away"),
        )


def _write(project: Path, files: dict[str, str], model: Path) -> None:
    """Write all files beside the folder first, so that it appears whole or not at all."""
    staging = project.with_name(f".{project.name}.{os.getpid()}.partial")
    try:
        (staging / "main").mkdir(parents=True)
        for name, text in files.items():
            (staging / name).write_text(text, encoding="utf-8")
        shutil.copyfile(model, staging / "main" / MODEL)
        if project.is_dir() and not project.is_symlink():
            project.rmdir()
        staging.rename(project)
    except OSError as error:
        raise OutputFolderError(
            f"{project} cannot be written: {error.strerror or error}",
            "check the permissions and the free space",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _partitions(plan: _Plan) -> str:
    app = plan.app_bytes + (0 if plan.in_partition else plan.model_bytes)
    lines = ["# Name, Type, SubType, Offset, Size", f"factory, app, factory, {_FIRST:#x}, {app:#x}"]
    if plan.in_partition:
        lines.append(f"model, data, spiffs, , {plan.model_bytes:#x}")
    return "\n".join(lines) + "\n"


def _manifest(esp_dl: str, esp_idf: str) -> str:
    return f'dependencies:\n  espressif/esp-dl: "=={esp_dl}"\n  idf: ">={esp_idf}"\n'


_CMAKE = """\
cmake_minimum_required(VERSION 3.16)
include($ENV{IDF_PATH}/tools/cmake/project.cmake)
project(espdl_board)
"""

_MAIN_IN_PARTITION = """\
idf_component_register(SRCS main.cpp REQUIRES esp-dl esp_timer)
# `idf.py flash` writes the model into the partition of that name, too.
esptool_py_flash_to_partition(flash "model" "${COMPONENT_DIR}/model.espdl")
"""

_MAIN_IN_RODATA = """\
idf_component_register(SRCS main.cpp REQUIRES esp-dl esp_timer)
# ESP-DL reads its models at addresses that are multiples of 16, and has a function for that.
idf_build_get_property(targets __COMPONENT_TARGETS)
if("___idf_espressif__esp-dl" IN_LIST targets)
    idf_component_get_property(esp_dl espressif__esp-dl COMPONENT_DIR)
else()
    idf_component_get_property(esp_dl esp-dl COMPONENT_DIR)
endif()
set(cmake_dir ${esp_dl}/fbs_loader/cmake)
include(${cmake_dir}/utilities.cmake)
target_add_aligned_binary_data(${COMPONENT_LIB} model.espdl BINARY)
"""


def _readme(card: Json, plan: _Plan, esp_dl: str, notes: list[str], *, has_tests: bool) -> str:
    board = plan.board
    memory = f"{plan.psram_mib} MiB of PSRAM" if plan.psram_mib else "no PSRAM"
    lines = [
        f"# A board test for {board.chip}",
        "",
        f"Written by espdl-quantize for ESP-DL {esp_dl} and ESP-IDF {board.esp_idf} or later. It "
        f"expects {plan.flash_mib} MiB of flash and {memory}; `sdkconfig.defaults` says so.",
        "",
        "```",
        ". $HOME/esp/esp-idf/export.sh",
        f"idf.py set-target {board.chip}",
        "idf.py build",
        "idf.py -p /dev/ttyUSB0 flash monitor | tee board.log",
        "espdl-quantize device-log board.log --output-dir outputs",
        "```",
        "",
        "Leave the monitor with Ctrl-] once it has printed `espdlq end`. The last command is run "
        "where the output folder of the search lies; it stores what the board measured with the "
        "iteration.",
        "",
        "The board loads the model"
        + (", runs ESP-DL's test on the recorded input and output," if has_tests else "")
        + " prints the time of every layer and the memory, and runs the model ten times.",
        "",
        *_tensor_lines(card),
        "",
        "`main/model_io.h` has these numbers for your own program, with functions that quantize "
        "an input and give the real value of an output.",
    ]
    lines += ["", *(f"- {_plain(note)}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def _tensor_lines(card: Json) -> Iterator[str]:
    for kind in ("inputs", "outputs"):
        for tensor in card[kind]:
            exponent = tensor["exponent"]
            real = "real numbers" if exponent is None else f"real value = integer * 2^{exponent}"
            layout = f", {_plain(tensor['layout'])}" if tensor.get("layout") else ""
            yield (
                f"- {kind[:-1]} `{_plain(tensor['name'])}`: {tensor['dtype']} {tensor['shape']}"
                f"{layout}, {real}"
            )


def _plain(text: object) -> str:
    """Return one line that can break neither Markdown's code nor a terminal."""
    return "".join(char if char.isprintable() and char != "`" else "?" for char in str(text))[:200]

"""What a project for a chip needs to know of it: memory, flash and the options of ESP-IDF.

Sources, looked at in July 2026: the manifest and the examples of ESP-DL 3.3.9 (which chips, which
ESP-IDF, which options), and Espressif's data sheets (SRAM).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from espdl_quantize.core import Hint, Option, UsageError
from espdl_quantize.targets.ops import op_table, version_text

Family = Literal["c", "s3", "p4"]
ESP_DL = version_text(op_table().version)
"""The version of ESP-DL that was read, and that a project is pinned to unless told otherwise."""


@dataclass(frozen=True)
class Board:
    """A chip on a usual board.

    Attributes:
        chip: the name that ESP-IDF builds for.
        family: whose kernels it runs; a model of one family is wrong on another.
        sram_kib: all memory inside the chip; a program gets less of it.
        psram_mib: PSRAM on a usual board; 0 where the chip takes none, or boards have none.
        takes_psram: whether the chip can have PSRAM.
        flash_mib: flash on a usual board.
        esp_idf: the least version that ESP-DL builds with.
        options: lines of sdkconfig.defaults, without those of PSRAM.
        psram_options: lines where the board has PSRAM.
    """

    chip: str
    family: Family
    sram_kib: int
    psram_mib: int
    takes_psram: bool
    flash_mib: int
    esp_idf: str
    options: tuple[str, ...]
    psram_options: tuple[str, ...] = ()


_AT_240 = "CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_240=y"
_AT_160 = "CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_160=y"
_S3 = (
    _AT_240,
    "CONFIG_ESP32S3_INSTRUCTION_CACHE_32KB=y",
    "CONFIG_ESP32S3_DATA_CACHE_64KB=y",
    "CONFIG_ESP32S3_DATA_CACHE_LINE_64B=y",
)
_P4 = ("CONFIG_CACHE_L2_CACHE_256KB=y", "CONFIG_CACHE_L2_CACHE_LINE_128B=y")
_BOARDS = {
    board.chip: board
    for board in (
        Board("esp32s3", "s3", 512, 8, True, 8, "5.3", _S3, ("CONFIG_SPIRAM_SPEED_80M=y",)),
        Board(
            "esp32p4",
            "p4",
            768,
            32,
            True,
            16,
            "5.3",
            _P4,
            # 200 MHz is among the options that ESP-IDF calls experimental.
            ("CONFIG_IDF_EXPERIMENTAL_FEATURES=y", "CONFIG_SPIRAM_SPEED_200M=y"),
        ),
        Board("esp32s31", "p4", 512, 16, True, 16, "6.0", (), ("CONFIG_SPIRAM_SPEED_250M=y",)),
        Board("esp32", "c", 520, 4, True, 4, "5.3", (_AT_240,)),
        Board("esp32s2", "c", 320, 2, True, 4, "5.3", (_AT_240,)),
        Board("esp32c5", "c", 384, 4, True, 4, "5.5", (_AT_240,)),
        Board("esp32c6", "c", 512, 0, False, 4, "5.3", (_AT_160,)),
        Board("esp32c3", "c", 400, 0, False, 4, "5.3", (_AT_160,)),
        Board("esp32c2", "c", 272, 0, False, 4, "5.3", ("CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_120=y",)),
    )
}


def board_of(target: str, chip: str | None = None) -> Board:
    """Return the board for a model.

    Args:
        target: what the model was exported for.
        chip: build for this chip instead; of the same family.

    Raises:
        UsageError: the chip is unknown, is of another family, or the target names none.
    """
    family = "c" if target == "c" else _BOARDS[target].family if target in _BOARDS else None
    if chip is None and target == "c":
        raise UsageError(
            "the model is for 'c', ESP-DL's code without vector instructions, which is no chip",
            Hint("name the chip with ", Option.CHIP, f": {', '.join(_names('c'))}"),
        )
    name = chip or target
    if name not in _BOARDS:
        raise UsageError(
            f"no project can be written for the chip {name!r}", f"known: {', '.join(_BOARDS)}"
        )
    board = _BOARDS[name]
    if family is not None and board.family != family:
        raise UsageError(
            f"the model was exported for {target}, whose kernels round and pack otherwise than "
            f"those of {name}",
            Hint(
                "give ", Option.CHIP, f" one of {', '.join(_names(family))}, or quantize for {name}"
            ),
        )
    return board


def sdkconfig(board: Board, flash_mib: int, psram_mib: int) -> Iterator[str]:
    """Yield the lines of sdkconfig.defaults.

    Args:
        board: the chip.
        flash_mib: flash of the board.
        psram_mib: PSRAM of the board; 0 for none.
    """
    yield f'CONFIG_IDF_TARGET="{board.chip}"'
    yield f"CONFIG_ESPTOOLPY_FLASHSIZE_{flash_mib}MB=y"
    yield "CONFIG_PARTITION_TABLE_CUSTOM=y"
    yield 'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="partitions.csv"'
    yield "CONFIG_COMPILER_OPTIMIZATION_PERF=y"
    # An inference may take seconds, during which nothing else runs on its core.
    yield "CONFIG_ESP_TASK_WDT_EN=n"
    yield "CONFIG_ESP_MAIN_TASK_STACK_SIZE=8192"
    yield from board.options
    if psram_mib:
        yield "CONFIG_SPIRAM=y"
        if board.chip == "esp32s3":
            # Modules with 8 MiB and more have octal PSRAM, those with 2 MiB quad.
            yield f"CONFIG_SPIRAM_MODE_{'OCT' if psram_mib >= 8 else 'QUAD'}=y"
        yield from board.psram_options


def _names(family: str) -> list[str]:
    return [board.chip for board in _BOARDS.values() if board.family == family]

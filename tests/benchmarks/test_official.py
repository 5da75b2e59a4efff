"""Every .espdl of a folder is checked on the chip that its path names."""

import json
from pathlib import Path

import pytest

from benchmarks.official import chip_of, main
from tests.chip.made import Bytes, make_export


@pytest.mark.parametrize(
    ("path", "chip"),
    [
        ("models/p4/espdet_pico_224_224_cat.espdl", "esp32p4"),
        ("s3/model.espdl", "esp32s3"),
        ("coco_512_s8_p4/yolo26n_512_s8_s3.espdl", "esp32s3"),
        ("esp32p4/model.espdl", "esp32p4"),
        ("models/esp32s31/model.espdl", "esp32s31"),
        ("models/c/Gemm/linear_s8.espdl", "c"),
        ("face_s8_v1.espdl", None),
        ("classes3/model.espdl", None),
    ],
)
def test_the_chip_of_a_path(path: str, chip: str | None) -> None:
    assert chip_of(Path(path)) == chip


def test_a_folder_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "files"
    made = make_export(folder / "s3", "residual", "esp32s3")
    assert main([str(folder)]) == 0
    printed = capsys.readouterr()
    assert "s3/model.espdl on esp32s3: legal" in printed.out
    assert "1 files: 1 legal, 0 legal with doubts, 0 illegal" in printed.err
    model = Bytes(made.file.read_bytes())
    model.set_exponent("first.bias", -3)
    broken = folder / "unnamed" / "model.espdl"
    broken.parent.mkdir()
    broken.write_bytes(model.result())
    (folder / "s3" / "cut.espdl").write_bytes(made.file.read_bytes()[:99])
    assert main([str(folder), "--chip", "esp32s3", "--json"]) == 1
    results = json.loads(capsys.readouterr().out)
    assert [bool(result["faults"]) for result in results] == [True, False, True]
    assert main([str(tmp_path / "nothing")]) == 2

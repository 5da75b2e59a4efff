"""A model that esp-ppq reads otherwise is refused; where that is allowed, every reader is told."""

from __future__ import annotations

import json
from pathlib import Path

from onnx import helper

from espdl_quantize.mcp.folder_tools import folder_status
from espdl_quantize.record.files import COMPARISON, HTML_REPORT, INDEX, REPORT
from tests.cli.conftest import Command, command
from tests.gate.situations import CONV, CONV_WEIGHTS, Graph, constant, onnx_contract

__all__ = ["command"]

EVALUATE = """import torch
    from esp_ppq.executor import TorchExecutor
    images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    scores = TorchExecutor(graph=quant_graph, device="cpu").forward(images)[0].mean((1, 2, 3))
    return {"top1": float(scores.mean()), "per_sample": scores}"""
TOLD = "another model than yours"


def contract_in(folder: Path) -> Path:
    """Write a contract whose Resize esp-ppq computes by other coordinates."""
    resize = helper.make_node(
        "Resize",
        ["c", "", "s"],
        ["y"],
        "Resize_y",
        mode="linear",
        coordinate_transformation_mode="asymmetric",
    )
    graph = Graph([CONV, resize], [*CONV_WEIGHTS, constant("s", [1, 1, 2, 2])])
    return onnx_contract(graph, evaluate=EVALUATE)(folder)


def test_check_goes_on_where_it_is_allowed(command: Command, tmp_path: Path) -> None:
    path = contract_in(tmp_path)
    refused = command("check", path)
    assert refused.returncode == 3
    assert "Resize_y" in refused.stderr
    assert "--allow-mismatch" in refused.stderr
    done = command("check", path, "--allow-mismatch")
    assert done.returncode == 0, done.stderr
    assert "Resize_y" in done.stdout
    assert done.stdout.endswith(f"what is scored is {TOLD}\n")
    facts = json.loads(command("check", path, "--allow-mismatch", "--json").stdout)
    assert facts["ok"] is True
    assert any("Resize_y" in warning for warning in facts["warnings"])


def test_every_report_tells_of_a_mismatch(command: Command, tmp_path: Path) -> None:
    path, folder = contract_in(tmp_path), tmp_path / "outputs" / "iter_0"
    run = ("run", path, "--baseline", "--output-dir", folder, "--in-process")
    refused = command(*run)
    assert refused.returncode == 3
    assert "Resize_y" in refused.stderr
    assert "--allow-mismatch" in refused.stderr
    done = command(*run, "--allow-mismatch", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "the mismatch was allowed" in done.stdout
    assert "Resize_y" in json.loads((folder / INDEX).read_text())["float_mismatch"]
    at = ("--output-dir", folder.parent)
    look = command("compare", *at)
    ended = command("compare", *at, "--finalize")
    told = {
        "run": done.stdout.replace("the mismatch was allowed", TOLD),
        "compare": look.stdout,
        "its end": ended.stdout,
        **{
            name: (folder.parent / name).read_text(encoding="utf-8")
            for name in (REPORT, HTML_REPORT, COMPARISON)
        },
        "MCP": " ".join(folder_status(folder.parent).warnings),
    }
    for where, text in told.items():
        words = " ".join(text.split())
        assert TOLD in words, where
        assert "Resize_y" in words, where

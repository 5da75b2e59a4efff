"""The part of a contract that its scores depend on, as one digest."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from pathlib import Path

from espdl_quantize.contract._config import QuantConfig

NO_PART_IN_THE_SCORE = {
    "target",
    "device",
    "onnx_path",
    "model_name",
    "metric_unit",
    "target_metric",
    "max_drop",
    "max_latency_ms",
    "max_ram_kb",
    "max_flash_kb",
    "deploy_runtime_priority",
    "analyse_steps",
    "top_k_layers",
    "non_computing_top_k",
    "graphwise_intervening_excess_threshold",
}
"""Keys of QUANT_CONFIG that may be edited in the middle of a search. The chip and the model are
compared on their own."""


def fingerprint(path: Path, config: QuantConfig) -> str:
    """Return a digest that changes with the contract's code, and with what of its config matters.

    Comments, blank lines and keys such as target_metric are left out: whoever reaches the target
    sets a higher one and goes on in the same folder.
    """
    digest = hashlib.sha256(config_text(config))
    with tokenize.open(path) as file:
        digest.update(_code(file.read()).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def config_text(config: QuantConfig) -> bytes:
    """Return the text of what in a config matters to its scores."""
    # As the versions wrote it that did not know the keys.
    excluded = NO_PART_IN_THE_SCORE | ({"batch_axis"} if config.batch_axis == 0 else set())
    excluded |= {"esp_dl_version"} if config.esp_dl_version is None else set()
    return config.model_dump_json(exclude=excluded).encode()


def _code(source: str) -> str:
    """Return the lines of code, less comments and the assignment of QUANT_CONFIG."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if "QUANT_CONFIG" in names and node.end_lineno is not None:
            count = node.end_lineno - node.lineno + 1
            lines[node.lineno - 1 : node.end_lineno] = [""] * count
    return "\n".join(line.rstrip() for line in lines if line.strip())

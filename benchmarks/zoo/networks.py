"""The networks of the zoo: a contract each, and what it needs that is not part of this project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = Path(__file__).resolve().parent / "contracts"
EXAMPLES = ROOT / "examples"
SITE, IMAGES, ESPDET = "ESPDL_ZOO_SITE", "ESPDL_IMAGES", "ESPDL_ESPDET"


@dataclass(frozen=True)
class Network:
    """One network on one chip.

    Attributes:
        name: what the command calls it.
        title: for the table.
        contract: its file.
        needs: environment variables that name folders or files of the user's.
        environment: what the contract is told.
        reference: says so where the float model's own outputs stand for labels.
    """

    name: str
    title: str
    contract: Path
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""

    def missing(self) -> tuple[str, ...]:
        """Return the variables that are needed, and name nothing that is there."""
        return tuple(
            name
            for name in self.needs
            if not os.environ.get(name) or not Path(os.environ[name]).exists()
        )


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        network: its name.
        strategy: its name.
        contract: the contract's file.
        folder: for what is made on the way; empty.
        seconds: how long it may search.
        clock: "wall", or "cpu" for seconds of the processor.
    """

    network: str
    strategy: str
    contract: str
    folder: str
    seconds: float
    clock: str = "wall"


_S3, _P4 = {"ESPDL_TARGET": "esp32s3"}, {"ESPDL_TARGET": "esp32p4"}
_FLOAT = "no labels: against its own float model"
_LITE0 = EXAMPLES / "efficientnet_lite0" / "user_quant.py"

NETWORKS = {
    network.name: network
    for network in (
        Network("demo", "demo CNN", EXAMPLES / "fashion_mnist" / "user_quant.py", (), _S3),
        Network("swish", "Swish CNN", EXAMPLES / "fashion_mnist_swish" / "user_quant.py", (), _S3),
        Network("gru", "GRU, a step at a time", EXAMPLES / "fashion_gru/user_quant.py", (), _S3),
        Network("scenes", "scene detector", CONTRACTS / "scene_detector.py", (), _S3),
        Network("pnet", "MTCNN P-Net", CONTRACTS / "mtcnn_pnet.py", (SITE, IMAGES), _S3, _FLOAT),
        Network("onet", "MTCNN O-Net", CONTRACTS / "mtcnn_onet.py", (SITE, IMAGES), _S3, _FLOAT),
        Network("ppocr", "PP-OCR direction", CONTRACTS / "ppocr_direction.py", (SITE,), _S3),
        Network("crepe", "CREPE tiny", CONTRACTS / "crepe_tiny.py", (SITE,), _S3),
        Network(
            "wakeword",
            "wake-word embedding",
            CONTRACTS / "wakeword_embedding.py",
            (SITE,),
            _S3,
            _FLOAT,
        ),
        Network("espdet", "ESPDet cat", CONTRACTS / "espdet_cat.py", (SITE, ESPDET), _S3),
        Network("lite0-s3", "EfficientNet-Lite0", _LITE0, (SITE, IMAGES), _S3),
        Network("lite0-p4", "EfficientNet-Lite0", _LITE0, (SITE, IMAGES), _P4),
    )
}
"""By name, those that take least time first."""

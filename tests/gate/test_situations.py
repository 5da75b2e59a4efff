"""Each thing that goes wrong for users: its true cause is named, with a remedy that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from espdl_quantize.core import FindingKind
from espdl_quantize.gate import STAGES, GateContext, GateOptions, examine
from espdl_quantize.iteration import captured
from espdl_quantize.record.files import LOG
from tests.gate.situations import SITUATIONS

MATTER = (FindingKind.FAULT, FindingKind.WARNING)


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_is_told_by_its_cause(name: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name]
    path = situation.write(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    options = GateOptions(score=situation.score)
    with captured(scratch / LOG):
        report = examine(GateContext(path, scratch, options), STAGES)
    findings = [
        each
        for each in report.findings
        if each.kind in MATTER and each.code != "few_calibration_samples"
    ]
    causes = " ".join(each.message for each in findings).lower()
    remedies = " ".join(each.hint for each in findings).lower()
    for text in situation.cause:
        assert text.lower() in causes
    for text in situation.remedy:
        assert text.lower() in remedies, remedies
    for text in situation.unlike:
        assert text.lower() not in causes + remedies
    if situation.kind:
        assert situation.kind in [each.kind for each in findings]
    elif not situation.cause:
        assert findings == []

from pathlib import Path
from types import SimpleNamespace

import pytest

from espdl_quantize.contract import Contract, load_contract
from espdl_quantize.core import EXIT_CONTRACT, ContractError, EspdlQuantizeError, IterationError
from espdl_quantize.iteration._score import score, score_float, score_quantized
from tests.contracts import write_contract


def contract(folder: Path, evaluate: str, extra: str = "") -> Contract:
    path = write_contract(folder, prelude="import torch\n", evaluate=evaluate, extra=extra)
    return load_contract(path, ("esp32s3",))


def test_metrics_become_plain_numbers(tmp_path: Path) -> None:
    evaluate = "return {'top1': torch.tensor(71.5), 'classes': torch.ones(2), 'odd': object}"
    scored = score(contract(tmp_path, evaluate), None, full=True)
    assert scored.value == 71.5
    assert scored.metrics["top1"] == 71.5
    assert scored.metrics["classes"] == [1.0, 1.0]
    assert "object" in scored.metrics["odd"]


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ("return {'top1': float('nan')}", "top1 = nan"),
        ("return {'top1': float('inf')}", "top1 = inf"),
        ("return {'top1': True}", "top1 = True"),
        ("return {'top1': '71'}", "top1 = '71'"),
        ("return {'top1': torch.ones(3)}", "expected a finite number"),
        ("return {'top5': 1.0}", r"no 'top1', only \['top5'\]"),
        ("return 71.5", "a float, expected a dict"),
        ("raise ValueError('boom')", "ValueError: boom"),
    ],
)
def test_what_is_no_score_is_named(tmp_path: Path, evaluate: str, told: str) -> None:
    with pytest.raises(IterationError, match=told):
        score(contract(tmp_path, evaluate), None, full=True)


@pytest.mark.parametrize("evaluate", ["return {'top5': 1.0}", "return None", "return 1 / 0"])
def test_a_float_model_without_a_score_is_a_fault_of_the_contract(
    tmp_path: Path, evaluate: str
) -> None:
    with pytest.raises(ContractError, match="the float model has no score") as caught:
        score_float(contract(tmp_path, evaluate), None, full=True)
    assert caught.value.exit_code == EXIT_CONTRACT
    # What evaluate returns does not depend on whether the graph is quantized; what it raises may.
    assert ("no_float_score" in caught.value.hint) == ("1 / 0" in evaluate)


class _Op:
    """What a graph is asked for to compute in floats, and back."""

    is_quantized = True

    def dequantize(self) -> None:
        self.is_quantized = False

    def restore_quantize_state(self) -> None:
        self.is_quantized = True


@pytest.mark.parametrize(
    ("evaluate", "error"),
    [
        ("raise ValueError(f'no {object()!r} here')", ContractError),
        ("return {'top1': float('nan')}", ContractError),
        ("return {'top1': 1 / (1 - op.is_quantized)}", IterationError),
        ("raise ValueError('quantized' if op.is_quantized else 'float')", IterationError),
    ],
)
def test_whether_a_setting_has_a_part_in_a_failure_is_told(
    tmp_path: Path, evaluate: str, error: type[EspdlQuantizeError]
) -> None:
    op = _Op()
    of = contract(tmp_path, f"op = quant_graph.operations['op']\n    {evaluate}")
    with pytest.raises(EspdlQuantizeError) as caught:
        score_quantized(of, SimpleNamespace(operations={"op": op}), full=True)
    assert type(caught.value) is error
    assert op.is_quantized
    assert ("no setting can change that" in caught.value.cause) == (error is ContractError)


def test_the_line_that_raised_and_the_todo_are_named(tmp_path: Path) -> None:
    unfilled = contract(
        tmp_path,
        "return load_test_batches()",
        "def load_test_batches():\n    raise NotImplementedError('load your test images here')\n",
    )
    with pytest.raises(ContractError, match=r"user_quant\.py:\d+, in load_test_batches") as caught:
        score_float(unfilled, None, full=True)
    assert caught.value.hint == "fill in the TODO in load_test_batches()"


FAST = "def evaluate_fast(quant_graph):\n    return {'top1': 1.0}\n"


def test_the_fast_evaluation_is_used_while_searching(tmp_path: Path) -> None:
    both = contract(tmp_path, "return {'top1': 2.0}", FAST)
    assert (score(both, None, full=False).used, score(both, None, full=False).value) == (
        "evaluate_fast",
        1.0,
    )
    assert score(both, None, full=True).used == "evaluate"


def test_a_fast_evaluation_that_fails_is_replaced_and_told(tmp_path: Path) -> None:
    broken = FAST.replace("return", "raise ValueError('slow day') or")
    scored = score(contract(tmp_path, "return {'top1': 2.0}", broken), None, full=False)
    assert (scored.used, scored.value) == ("evaluate", 2.0)
    assert "slow day" in scored.warnings[0]

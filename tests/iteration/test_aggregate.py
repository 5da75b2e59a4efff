"""A metric that the contract makes of records has an interval and verdicts."""

from pathlib import Path

import numpy as np

from espdl_quantize.contract import load_contract
from espdl_quantize.core import NoProgress
from espdl_quantize.iteration import Prepared, RunOptions, run_iteration
from espdl_quantize.record import IterationRecord, read_history
from espdl_quantize.record.files import SAMPLES
from espdl_quantize.setting import Setting, baseline
from espdl_quantize.stats import DRAWS, read_samples
from tests.contracts import write_contract
from tests.search.made_runs import make
from tests.there import there

EVALUATE = """import torch
    from esp_ppq.executor import TorchExecutor
    from tests.networks import held_out_images
    import random
    images = held_out_images(32)
    order = list(range(32)); random.Random(len(calls)).shuffle(order); calls.append(1)
    outputs = torch.cat([TorchExecutor(graph=quant_graph, device='cpu').forward(images[i:i + 1])[0]
                         for i in order])
    records = [{'said': int(o.argmax()), 'is': int(images[i].sum() > images.sum() / 32)}
               for i, o in zip(order, outputs)]
    return {'top1': aggregate(records), 'per_sample': records}"""
AGGREGATE = """
def aggregate(records):
    return sum(r['said'] % 2 == r['is'] for r in records) / len(records)
"""


def run(prepared: Prepared, place: Path, setting: Setting) -> IterationRecord:
    return run_iteration(prepared.contract, setting, place, RunOptions(), NoProgress(), prepared)


def test_records_give_an_interval_and_paired_verdicts(tmp_path: Path) -> None:
    path = write_contract(tmp_path, evaluate=EVALUATE, extra=AGGREGATE, prelude="calls = []\n")
    with Prepared(load_contract(path, ["esp32s3"])) as prepared:
        record = run(prepared, tmp_path / "outputs/iter_0", baseline())
        run(prepared, tmp_path / "outputs/iter_1", make(calib_algorithm="minmax"))
    assert (record.sample_count, record.sample_count_from) == (32, "records")
    samples = read_samples(tmp_path / "outputs/iter_0" / SAMPLES)
    assert samples.replicates.shape == (DRAWS,)
    assert (np.diff(samples.result_digests[:, 0].astype(int)) >= 0).all()  # whatever came first
    history = read_history(tmp_path / "outputs")
    first, second = history.iterations
    interval = there(history.noise.interval(first))
    assert interval.low < there(first.value) < interval.high
    versus = there(history.versus(second, first))
    assert (versus.paired, versus.samples) == (True, 32)
    assert versus.test in ("paired bootstrap of the metric", "equal results")
    # Paired, the difference is known far better than either score.
    assert there(versus.high) - there(versus.low) < interval.high - interval.low


def test_an_aggregate_may_go_by_the_order_of_the_samples(tmp_path: Path) -> None:
    """As mAP does where scores are tied."""
    ordered = (
        "\ndef aggregate(records):\n"
        "    return sum(n * r['said'] % 7 for n, r in enumerate(records)) / len(records)\n"
    )
    path = write_contract(tmp_path, evaluate=EVALUATE, extra=ordered, prelude="calls = []\n")
    with Prepared(load_contract(path, ["esp32s3"])) as prepared:
        record = run(prepared, tmp_path / "outputs/iter_0", baseline())
    assert record.sample_count_from == "records"
    assert not [each for each in record.warnings if "not the same metric" in each]


def test_an_aggregate_of_another_metric_is_not_resampled(tmp_path: Path) -> None:
    other = "\ndef aggregate(records):\n    return 5.0\n"
    evaluate = EVALUATE.replace("aggregate(records)", "0.25")
    path = write_contract(tmp_path, evaluate=evaluate, extra=other, prelude="calls = []\n")
    with Prepared(load_contract(path, ["esp32s3"])) as prepared:
        record = run(prepared, tmp_path / "outputs/iter_0", baseline())
    assert record.sample_count_from != "records"
    assert any("aggregate(per_sample) is 5" in warning for warning in record.warnings)

"""What of Ray can be told without it."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.core import Direction, Priority, Strategy
from espdl_quantize.iteration import RunOptions, first_draft
from espdl_quantize.record import Budgets, IterationRecord
from espdl_quantize.setting import baseline
from espdl_quantize.tuning import BackendFacts
from espdl_quantize.tuning.ray.cluster import Share, knock, share_of
from espdl_quantize.tuning.ray.tasks import STARTS, Task
from tests.there import there

GIB = 1 << 30


class Nodes:
    """As a cluster, with so many nodes that are alike."""

    def __init__(self, count: int = 1, **resources: float) -> None:
        self.nodes = [{"Resources": {"CPU": 8.0, "memory": 32 * GIB, **resources}}] * count

    def __getattr__(self, name: str) -> int:
        return int(sum(node["Resources"].get(name[:-1].upper(), 0) for node in self.nodes))


def share(nodes: Any, slots: int, **measured: Any) -> Share:
    return share_of(nodes, slots, **measured)


def test_shares_of_nodes() -> None:
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 10.0}
    assert Share(2, 0, 0).count_in(node) == 4
    assert Share(1, 0, 4).count_in(node) == 2
    assert Share(1, 1.0, 0).count_in(node) == 2
    assert Share(1, 1 / 3, 0).count_in(node) == 6
    assert Share(1, 1.0, 11).count_in(node) == 0
    assert Share(1, 1.0, 0).count_in({"CPU": 4.0}) == 0


def test_cores_are_never_asked_for_twice() -> None:
    for slots in (1, 2, 3, 8, 9, 1000):
        cpus = share(Nodes(), slots).cpus
        assert cpus >= 1
        assert cpus * min(slots, 8) <= 8
    assert share(Nodes(4), 2).cpus == 8


def test_memory_is_what_was_measured_and_a_quarter() -> None:
    assert share(Nodes(), 4).memory == 8 * GIB
    assert share(Nodes(), 4, memory=4 * GIB).memory == 5 * GIB
    # More than a node has fits nowhere, and is tried all the same.
    assert share(Nodes(), 4, memory=99 * GIB).memory == 32 * GIB


@pytest.mark.parametrize(
    ("slots", "of_memory", "gpus"),
    [(1, 0.3, 1), (2, 0.3, 1), (4, 0.3, 1 / 2), (8, 0.3, 1 / 2), (8, 0.1, 1 / 4), (4, 0.9, 1)],
)
def test_a_gpu_is_shared_as_far_as_its_memory_goes(
    slots: int, of_memory: float, gpus: float
) -> None:
    taken = share(Nodes(GPU=2.0), slots, gpus=1.0, memory=GIB, device_share=of_memory)
    assert taken.gpus == pytest.approx(gpus)
    assert taken.count_in(Nodes(GPU=2.0).nodes[0]["Resources"]) <= round(2 / gpus)


def test_what_is_slow_is_told_once(tmp_path: Path) -> None:
    task = Task(baseline(3), tmp_path / "iter_3", {}, 50.0)
    assert task.is_slow(100.0) is None
    assert "iter_3 has taken 1 min 41 s" in there(task.is_slow(101.0))
    assert task.is_slow(999.0) is None


def test_who_has_said_something_does_not_wait(tmp_path: Path) -> None:
    task = Task(baseline(3), tmp_path / "iter_3", {}, None, since=10.0)
    assert task.waits_at(11.0)
    assert not task.waits_at(10.0)
    task.place = STARTS
    assert not task.waits_at(11.0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://[::1]:1", "h\0st:6379", "host:99999"])
def test_nobody_answers_at_such_an_address(address: str) -> None:
    with pytest.raises((OSError, OverflowError, ValueError)):
        knock(address)


def test_what_is_no_address_is_left_to_ray() -> None:
    for address in ("auto", "local", "", "ray://", "host:port"):
        knock(address)


def test_the_first_draft_has_all_that_the_contract_says() -> None:
    facts = BackendFacts(
        metric="top1",
        direction=Direction.MAX,
        model_name="net",
        target_chip="esp32p4",
        contract_path="/c.py",
        target=0.7,
        priority=Priority.SPEED,
        contract_key="key",
        num_of_bits=16,
        budgets=Budgets(max_drop=1.0),
        target_given=True,
        esp_dl_version="3.3.9",
    )
    options = RunOptions(seed=3, strategy=Strategy.SWIFT, beside=(4, 5))
    draft = first_draft(baseline(6), asdict(facts), asdict(options), ("few",))
    assert (draft.id, draft.warnings, draft.deploy_runtime_priority) == (
        6,
        ("few",),
        facts.priority,
    )
    both = {each.name for each in fields(IterationRecord)}
    for name in {each.name for each in fields(BackendFacts)} & both - {"final_by", "strategy"}:
        assert getattr(draft, name) == getattr(facts, name) != getattr(BackendFacts(), name)
    for name in {each.name for each in fields(RunOptions)} & both - {"draw"}:
        assert getattr(draft, name) == getattr(options, name)

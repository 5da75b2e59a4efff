"""A contract's working directory and import path are its own; the caller's stay the caller's."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from espdl_quantize.contract import Contract, load_contract, read_batches
from espdl_quantize.core import ContractError
from espdl_quantize.iteration import score_float
from espdl_quantize.ppq import prepare_float_model, probe_torch_model
from tests.contracts import write_contract

TARGETS = ("esp32p4", "esp32s3")
ASTRAY = "import os, sys; os.chdir({away!r}); sys.path.insert(0, {away!r}); "
BOOM = "raise ValueError('boom')"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The caller's working directory; the contract lies in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(folder)
    return folder


def _use(contract: Contract, folder: Path) -> None:
    """Do all that any command does with a contract's code."""
    batch = read_batches(contract, limit=1)[0]
    probe_torch_model(contract, batch)
    prepare_float_model(contract, Path(os.path.relpath(folder)))
    read_batches(contract)
    for final in (False, True):
        for full in (False, True):
            score_float(contract, None, full=full, final=final)


PLACES = (
    "import",
    "create_calib_dataloader",
    "batches",
    "collate_fn",
    "get_torch_model",
    "forward",
    "evaluate",
    "evaluate_fast",
    "evaluate_final",
)


def _astray_contract(home: Path, where: str, how: str) -> Path:
    astray = ASTRAY.format(away=str(home.parent / "away"))
    boom = f"{BOOM}\n" if how == "raises" else "\n"
    end = dict.fromkeys(PLACES, "") | {where: astray}
    raised = dict.fromkeys(PLACES, "") | {where: boom.strip()}
    score = "return {'top1': 1.0}"

    def body(name: str, rest: str) -> str:
        lines = [line for line in (end[name], raised[name]) if line]
        return "".join(f"{line}\n    " for line in lines) + rest

    generator = (
        "def batches():\n"
        "    from tests.networks import calibration_images\n"
        "    images = calibration_images(64)\n"
        "    try:\n"
        "        for at in range(0, 64, 16):\n"
        f"            {end['batches'] or 'pass'}\n"
        f"            {raised['batches'] or 'pass'}\n"
        "            yield images[at:at + 16]\n"
        "    finally:\n"
        f"        {end['batches'] or 'pass'}\n"
    )
    functions = "".join(
        f"def {name}(graph):\n    {body(name, score)}\n"
        for name in ("evaluate_fast", "evaluate_final")
    )
    functions += f"def collate_fn(batch):\n    {body('collate_fn', 'return batch')}\n"
    wrapped = (
        "import torch\n"
        "class Wrapped(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        from tests.networks import depthwise_cnn\n"
        "        self.inner = depthwise_cnn()\n"
        "    def forward(self, x):\n"
        f"        {end['forward'] or 'pass'}\n"
        f"        {raised['forward'] or 'pass'}\n"
        "        return self.inner(x)\n"
    )
    prelude = "".join(f"{line}\n" for line in (end["import"], raised["import"]) if line)
    return write_contract(
        home,
        calibration=body("create_calib_dataloader", "return batches()"),
        model=body("get_torch_model", "return Wrapped().eval()"),
        evaluate=body("evaluate", score),
        prelude=prelude + wrapped + generator,
        extra=functions,
    )


@pytest.mark.parametrize("how", ["returns", "raises"])
@pytest.mark.parametrize("where", PLACES)
def test_the_callers_directory_and_path_outlast_every_call(
    home: Path, where: str, how: str
) -> None:
    _astray_contract(home, where, how)
    path, entries = sys.path, [*sys.path]
    failed = False
    try:
        _use(load_contract(Path("user_quant.py"), TARGETS), home)
    except ContractError:
        failed = True
    # Where evaluate_fast fails, evaluate scores.
    assert failed == (how == "raises" and where != "evaluate_fast")
    assert Path.cwd() == home
    assert sys.path is path
    # Setuptools, once it is imported, adds a folder of its own for the process.
    assert [entry for entry in sys.path if "site-packages" not in entry] == [
        entry for entry in entries if "site-packages" not in entry
    ]


def test_an_installed_package_adds_to_everybodys_path(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    vendored = str(home / "site-packages" / "package" / "_vendor")
    entries = [*sys.path]
    path = write_contract(home, prelude=f"import sys\nsys.path.append({vendored!r})\n")
    load_contract(path, TARGETS)
    assert sys.path == [*entries, vendored]


@pytest.mark.parametrize("where", PLACES)
def test_between_two_batches_the_callers_directory_holds(home: Path, where: str) -> None:
    _astray_contract(home, where, "returns")
    seen = []
    contract = load_contract(Path("user_quant.py"), TARGETS)
    read_batches(contract, on_batch=lambda done, total: seen.append((Path.cwd(), sys.path[0])))
    assert {place for place, _ in seen} == {home}
    assert {entry for _, entry in seen} == {sys.path[0]}


def test_a_contract_finds_the_directory_of_its_import_again(home: Path) -> None:
    """One that enters its folder at import, so that its relative paths work, goes on working."""
    (home / "sub").mkdir()
    (home / "sub" / "lib").mkdir()
    (home / "sub" / "value.txt").write_text("41")
    (home / "sub" / "lib" / "lazily.py").write_text("VALUE = 1\n")
    write_contract(
        home / "sub",
        prelude="import os, sys\nos.chdir(os.path.dirname(__file__))\nsys.path.append('lib')\n",
        evaluate="import lazily\n    return {'top1': int(open('value.txt').read()) + lazily.VALUE}",
    )
    contract = load_contract(Path("sub/user_quant.py"), TARGETS)
    assert contract.call("evaluate", None) == {"top1": 42}
    assert Path.cwd() == home
    assert "lib" not in sys.path


def test_the_next_call_is_in_the_directory_entered(home: Path) -> None:
    """As before: a loader that enters its data's folder reads its files by relative paths."""
    (home / "data").mkdir()
    (home / "data" / "scale.txt").write_text("2")
    loader = (
        "import os\n    os.chdir('data')\n    from tests.networks import calibration_images\n"
        "    images = calibration_images(64)\n"
        "    return (images[n:n + 16] * int(open('scale.txt').read()) for n in range(0, 64, 16))"
    )
    score = "return {'top1': int(open('scale.txt').read())}"
    contract = load_contract(write_contract(home, calibration=loader, evaluate=score), TARGETS)
    assert len(read_batches(contract)) == 4
    assert contract.call("evaluate", None) == {"top1": 2}
    assert Path.cwd() == home


def test_a_call_that_raises_leaves_the_contract_where_it_was(home: Path) -> None:
    (home / "value.txt").write_text("3")
    fast = "def evaluate_fast(graph):\n    import os\n    os.chdir('..')\n    raise ValueError\n"
    score = "return {'top1': int(open('value.txt').read())}"
    contract = load_contract(write_contract(home, evaluate=score, extra=fast), TARGETS)
    assert score_float(contract, None, full=False).value == 3


@pytest.mark.parametrize("when", ["import", "evaluate"])
def test_the_callers_directory_may_be_deleted_meanwhile(home: Path, when: str) -> None:
    gone = home.parent / "gone"
    gone.mkdir()
    delete = f"import os; os.rmdir({str(gone)!r})"
    path = write_contract(
        home,
        prelude=f"{delete}\n" if when == "import" else "",
        evaluate=(f"{delete}\n    " if when == "evaluate" else "") + "return {'top1': 1}",
    )
    os.chdir(gone)
    contract = load_contract(path, TARGETS)
    assert contract.call("evaluate", None) == {"top1": 1}
    # The deleted one, and no other in its place.
    with pytest.raises(FileNotFoundError):
        Path.cwd()


def test_a_contracts_own_directory_may_be_deleted(home: Path) -> None:
    (home / "value.txt").write_text("4")
    model = (
        "import os, tempfile\n"
        "    with tempfile.TemporaryDirectory() as folder:\n"
        "        os.chdir(folder)\n"
        "        from tests.networks import depthwise_cnn\n"
        "        return depthwise_cnn()"
    )
    score = "return {'top1': int(open('value.txt').read())}"
    contract = load_contract(write_contract(home, model=model, evaluate=score), TARGETS)
    contract.call("get_torch_model")
    assert contract.call("evaluate", None) == {"top1": 4}


def test_what_the_caller_adds_to_the_path_later_is_seen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = home.parent / "away"
    (added / "added_later.py").write_text("VALUE = 5\n")
    score = "import added_later\n    return {'top1': added_later.VALUE}"
    contract = load_contract(write_contract(home, evaluate=score), TARGETS)
    monkeypatch.syspath_prepend(str(added))
    assert contract.call("evaluate", None) == {"top1": 5}


def test_two_contracts_do_not_see_each_others_neighbours(home: Path) -> None:
    """Both say ``import helper``, by the folder or by a relative entry, and have their own."""
    loaded = []
    for number in (1, 2):
        folder = home / str(number)
        (folder / "lib").mkdir(parents=True)
        (folder / "helper.py").write_text(f"VALUE = {number}\n")
        (folder / "lib" / "deep.py").write_text(f"VALUE = {number}0\n")
        prelude = (
            "import os, sys\nos.chdir(os.path.dirname(__file__))\nsys.path.insert(0, 'lib')\n"
            "import helper\n"
        )
        score = (
            "import deep, helper as again\n"
            "    assert again is helper\n"
            "    return {'top1': helper.VALUE + deep.VALUE}"
        )
        loaded.append(
            load_contract(write_contract(folder, prelude=prelude, evaluate=score), TARGETS)
        )
    for _ in range(2):
        assert [contract.call("evaluate", None)["top1"] for contract in loaded] == [11, 22]


def test_a_contract_that_is_loaded_twice_imports_its_neighbours_once(home: Path) -> None:
    """A neighbour may register what must not be registered twice in a process."""
    (home / "registering.py").write_text(
        "import sys\nassert not hasattr(sys, 'registered_by_a_test')\n"
        "sys.registered_by_a_test = True\n"
    )
    path = write_contract(home, prelude="import registering\n", evaluate="return {'top1': 1}")
    try:
        first, second = (load_contract(path, TARGETS) for _ in range(2))
        for contract in (first, second, first):
            assert contract.call("evaluate", None) == {"top1": 1}
            # A DataLoader pickles functions of the module by its name.
            with contract.entered():
                assert sys.modules[contract.module.__name__] is contract.module
    finally:
        del sys.registered_by_a_test  # type: ignore[attr-defined]


def test_worker_processes_of_a_loader_run_where_the_contract_is(home: Path) -> None:
    (home / "sub").mkdir()
    (home / "sub" / "scale.txt").write_text("2")
    (home / "sub" / "in_worker.py").write_text(
        "def scale():\n    return float(open('scale.txt').read())\n"
    )
    prelude = (
        "import os, torch\nos.chdir(os.path.dirname(__file__))\n"
        "class Images(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 64\n"
        "    def __getitem__(self, at):\n"
        "        from in_worker import scale\n"
        "        return torch.full((1, 28, 28), scale())\n"
    )
    loader = "return torch.utils.data.DataLoader(Images(), batch_size=16, num_workers=1)"
    path = write_contract(home / "sub", prelude=prelude, calibration=loader)
    batches = read_batches(load_contract(path, TARGETS))
    assert len(batches) == 4
    assert all(float(batch.tensors[0].mean()) == 2 for batch in batches)
    assert Path.cwd() == home


def test_two_threads_do_not_move_each_other(home: Path) -> None:
    contracts = []
    for name in ("a", "b"):
        (home / name).mkdir()
        score = (
            "import os, time\n    before = os.getcwd()\n    time.sleep(0.05)\n"
            "    return {'top1': os.path.samefile(before, os.getcwd())}"
        )
        prelude = "import os\nos.chdir(os.path.dirname(__file__))\n"
        contracts.append(
            load_contract(write_contract(home / name, prelude=prelude, evaluate=score), TARGETS)
        )
    scores: list[Any] = []

    def run(contract: Contract) -> None:
        scores.extend(contract.call("evaluate", None)["top1"] for _ in range(5))

    threads = [threading.Thread(target=run, args=(contract,)) for contract in contracts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [True] * 10
    assert Path.cwd() == home

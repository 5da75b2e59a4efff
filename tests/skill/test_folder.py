"""What the skill's texts say is what the package does."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from espdl_quantize import __version__
from espdl_quantize.core import Priority, errors
from espdl_quantize.record import ARTIFACTS
from espdl_quantize.report import compare
from espdl_quantize.search import DEFAULT_THRESHOLDS
from espdl_quantize.search.levers import LEVERS, linear_order
from espdl_quantize.setting import parse_setting
from espdl_quantize.skill import skill_source
from tests.search.made_runs import SWEEP, swept, write_history
from tests.test_readme import COMMANDS, options_of

ROOT = Path(__file__).parent.parent.parent
SKILL = ROOT / "skill" / "espdl-quantize"
TEXTS = sorted(SKILL.rglob("*.md"))
PLAYBOOK = (SKILL / "references/decision_playbook.md").read_text(encoding="utf-8")
MAIN = (SKILL / "SKILL.md").read_text(encoding="utf-8")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def front_matter() -> dict[str, str]:
    validator = pytest.importorskip(
        "skills_ref.parser", reason="skills-ref needs Python 3.11 or newer"
    )
    found, _ = validator.parse_frontmatter(MAIN)
    return dict(found)


def test_it_is_a_valid_skill() -> None:
    validator = pytest.importorskip(
        "skills_ref.validator", reason="skills-ref needs Python 3.11 or newer"
    )
    assert validator.validate(SKILL) == []
    # All of it is read before the first command.
    assert len(MAIN) < 9_000


def test_the_description_says_when_and_when_not() -> None:
    told = str(front_matter()["description"])
    assert len(told) <= 1024
    for phrase in (
        "esp-ppq 量化调参",
        "降低量化误差",
        "Layerwise quantization error 分析",
        "QuantizationSettingFactory.espdl_setting 怎么调",
        "混合精度量化",
        "量化精度恢复",
        "espdl 量化优化",
    ):
        assert phrase in told
    assert "Not for quantization-aware training" in told


def test_the_version_is_the_packages() -> None:
    assert front_matter()["metadata"]["version"] == __version__  # type: ignore[index]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_link_resolves(text: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", text.read_text(encoding="utf-8")):
        assert (text.parent / target).is_file(), target


def test_references_are_one_level_deep_and_all_named() -> None:
    assert all(path.parent in (SKILL, SKILL / "references") for path in TEXTS)
    for path in SKILL.rglob("*"):
        if path.is_file() and path.parent.name in ("references", "assets"):
            assert f"({path.relative_to(SKILL).as_posix()})" in MAIN


def test_what_is_generated_is_up_to_date() -> None:
    wanted = load(ROOT / "skill/generate.py").wanted()
    stale = [path.name for path, text in wanted.items() if path.read_text("utf-8") != text]
    assert not stale, "run: python skill/generate.py"
    assert {path.name for path in wanted} >= {
        "user_quant_torch_example.py",
        "user_quant_onnx_example.py",
        "extra_requirements.txt",
        "example_classifier.py",
        "example_detector.py",
        "example_recurrent.py",
        "setting_json_schema.md",
        "contract.md",
        "decision_playbook.md",
    }


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(text: Path) -> None:
    words = text.read_text(encoding="utf-8")
    commands = {name: options_of(command) for name, command in COMMANDS.items()}
    commands["run_iteration.py"] = commands["run"] | {"--user-quant", "--check-contract"}
    commands["compare_iterations.py"] = commands["compare"]
    named = re.findall(r"(?:python -m espdl_quantize|espdl-quantize) ([a-z]+)([^`\n]*)", words)
    named += re.findall(r"((?:run_iteration|compare_iterations)\.py)\"?([^`\n]*)", words)
    for name, rest in named:
        # "espdl-quantize needs ..." is a sentence, no command.
        if name in commands:
            assert set(re.findall(r"--[a-z][a-z-]+", rest)) <= commands[name], rest
    known = set().union(*commands.values(), ["--version"])
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", words)) <= known


def test_numbers_of_the_playbook_are_the_programs() -> None:
    pairs = re.findall(r"([0-9][0-9.]*) \(`(\w+)`\)", PLAYBOOK)
    assert len(pairs) > 25
    for number, name in pairs:
        assert float(number) == getattr(DEFAULT_THRESHOLDS, name), name


def test_the_table_of_levers_is_the_programs() -> None:
    rows = re.findall(r"^\| (3[a-k](?:-\d)?) \| ([ABC]) \| ([0+]) \|", PLAYBOOK, re.MULTILINE)
    assert rows == [(lever.id, lever.tier, lever.cost) for lever in LEVERS.values()]
    for priority in (Priority.BALANCED, Priority.SPEED):
        order = " ".join(lever.id for lever in linear_order(priority))
        assert re.search(rf"^\| {priority}\b.* \| {order} \|", PLAYBOOK, re.MULTILINE)


def test_every_artifact_is_described_and_no_other() -> None:
    text = (SKILL / "references/artifacts.md").read_text(encoding="utf-8")
    table = text.split("## outputs/iter_")[1].split("###")[0]
    named = set(re.findall(r"`([\w.]+\.(?:json|log|npz|espdl|info|native))`", table))
    assert named == ARTIFACTS


def test_keys_of_the_comparison_are_described(tmp_path: Path) -> None:
    text = (SKILL / "references/artifacts.md").read_text(encoding="utf-8")
    write_history(tmp_path, swept(*SWEEP))
    found = compare(tmp_path).comparison.to_json()
    for key in (set(found) | set(found["next_step_hint"])) - {"generated_by"}:
        assert f"`{key}`" in text, key


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    text = (SKILL / "references/troubleshooting.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


def test_the_templates_of_settings_are_settings() -> None:
    text = (SKILL / "references/setting_json_schema.md").read_text(encoding="utf-8")
    sweep, levers, free = (json.loads(b) for b in re.findall(r"```json\n(.*?)```", text, re.S))
    for payload in (sweep, free):
        parse_setting(payload)
    # 3j takes out of a setting, and has nothing of its own to show.
    assert set(levers) == set(LEVERS) - {"3j"}
    base = {"iteration_id": 1, "calib_algorithm": "kl", "tqt_optimization": {"enabled": True}}
    for name, change in levers.items():
        merged = {**base, **change}
        if name.startswith("3a"):
            merged["tqt_optimization"] = {"enabled": True, **change["tqt_optimization"]}
        assert LEVERS[name].marks(parse_setting(merged)), name


def test_signals_of_phase_5_are_described() -> None:
    from espdl_quantize.search.phase5 import Phase5Signals

    for name in Phase5Signals.__dataclass_fields__:
        assert f"`{name}`" in PLAYBOOK, name


def test_evals_are_whole() -> None:
    found = json.loads((SKILL / "evals/evals.json").read_text(encoding="utf-8"))
    assert found["skill_name"] == "espdl-quantize"
    wanted = [case["should_trigger"] for case in found["triggers"]]
    assert wanted.count(True) >= 5 and wanted.count(False) >= 5
    queries = [case["query"] for case in found["triggers"]]
    assert len(set(queries)) == len(queries)
    assert any(re.search(r"[\u4e00-\u9fff]", query) for query in queries)
    ids = [case["id"] for case in found["evals"]]
    assert ids == list(range(1, len(ids) + 1))
    for case in found["evals"]:
        assert case["prompt"] and case["expected_output"] and case["expectations"]
        assert all((ROOT / file).exists() for file in case["files"])


def test_the_scripts_open_with_any_python_that_may_meet_them() -> None:
    assert skill_source() == SKILL
    for script in sorted((SKILL / "scripts").glob("*.py")):
        compile(script.read_text(encoding="utf-8"), script.name, "exec", dont_inherit=True)
    assert sys.version_info >= (3, 10)


def test_lines_of_the_texts_can_be_pasted() -> None:
    for text in TEXTS:
        for block in text.read_text(encoding="utf-8").split("```")[1::2]:
            for line in block.splitlines() if block.startswith("\n") else ():
                shlex.split(line, comments=True)

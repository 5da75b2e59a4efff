"""The stages of the gate, in their order."""

from espdl_quantize.gate._run import GateStage
from espdl_quantize.gate.stages.contract import load, probe_chip, read_loader
from espdl_quantize.gate.stages.data_sanity import compare_inputs, examine_calibration
from espdl_quantize.gate.stages.evaluation import score, score_final
from espdl_quantize.gate.stages.model import (
    compare_models,
    hold_inputs,
    read_model,
    run_torch_model,
)
from espdl_quantize.gate.stages.score_sanity import (
    compare_noisy,
    compare_trial,
    examine_score,
    repeat,
    score_trial,
)
from espdl_quantize.gate.stages.trial import try_out

STAGES: tuple[GateStage, ...] = (
    GateStage(name="load the contract", subject="QUANT_CONFIG", examine=load),
    GateStage(name="look at the chip", subject="target", examine=probe_chip, needs=("contract",)),
    GateStage(
        name="read calibration batches",
        subject="create_calib_dataloader()",
        examine=read_loader,
        needs=("contract", "has_device"),
    ),
    GateStage(
        name="compare the inputs",
        subject="onnx_path",
        examine=hold_inputs,
        needs=("contract",),
    ),
    GateStage(
        name="examine the calibration data",
        subject="create_calib_dataloader()",
        examine=examine_calibration,
        needs=("contract", "batches"),
    ),
    GateStage(
        name="run the torch model",
        subject="get_torch_model()",
        examine=run_torch_model,
        needs=("contract", "has_device"),
    ),
    GateStage(
        name="run the exported graph",
        subject="the model",
        examine=read_model,
        needs=("contract", "inputs_fit", "runs"),
    ),
    GateStage(
        name="compare it with the model",
        subject="the model",
        examine=compare_models,
        needs=("contract", "graph"),
    ),
    GateStage(
        name="try to quantize and export",
        subject="the model",
        examine=try_out,
        needs=("contract", "target", "batches", "graph"),
    ),
    GateStage(
        name="score the float model",
        subject="evaluate()",
        examine=score,
        needs=("contract", "graph"),
    ),
    GateStage(
        name="score it again",
        subject="evaluate()",
        examine=repeat,
        needs=("scored", "score_facts"),
    ),
    GateStage(
        name="score the trial",
        subject="evaluate()",
        examine=score_trial,
        needs=("scored", "trial"),
    ),
    GateStage(
        name="examine the score",
        subject="evaluate()",
        examine=examine_score,
        needs=("scored", "score_facts"),
    ),
    GateStage(
        name="score a copy with noise",
        subject="evaluate()",
        examine=compare_noisy,
        needs=("scored",),
    ),
    GateStage(
        name="compare calibration with scoring",
        subject="evaluate()",
        examine=compare_inputs,
        needs=("scored", "batches"),
    ),
    GateStage(
        name="compare the trial with the float model",
        subject="evaluate()",
        examine=compare_trial,
        needs=("scored", "batches", "trial"),
    ),
    GateStage(
        name="score the float model by evaluate_final",
        subject="evaluate_final()",
        examine=score_final,
        needs=("contract", "graph"),
    ),
)
"""Every stage: what each one needs is set by one before it."""

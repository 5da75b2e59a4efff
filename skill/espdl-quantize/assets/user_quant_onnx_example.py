"""Contract for espdl-quantize: an ONNX model, its calibration data and how it is scored.

Keep imports light and heavy work inside the functions: this file is loaded for every command.
Check it with: espdl-quantize check user_quant.py
"""

from pathlib import Path

import torch

QUANT_CONFIG = {
    "model_type": "onnx",
    # Relative to this file. It is copied before use and never written.
    "onnx_path": "model.onnx",
    # One sample, without the batch dimension. Several inputs: a dict of shapes by name, below.
    "input_shape": [3, 224, 224],
    "batch_size": 32,
    # Any chip that the installed esp-ppq accepts: esp32p4, esp32s3, c, ...
    "target": "esp32s3",
    "num_of_bits": 8,
    "device": "cpu",  # or "cuda"
    # Calibration batches; 256 to 1,024 samples in all are usual.
    "calib_steps": 16,
    # The key of evaluate()'s dict that the search improves, and which way is better.
    "primary_metric": "top1",
    "metric_direction": "max",
    # Stop as soon as this is reached; leave it out to search on.
    # "target_metric": 71.0,
}


DATA = Path(__file__).parent / "data"  # beside this file, wherever the command is run


def load_sample(file):
    """Return one sample as the model takes it, without the batch dimension.

    Calibration and scoring preprocess by this one function, and the chip has to do the same.
    """
    raise NotImplementedError("load and preprocess the file: a tensor [3, 224, 224]")


def create_calib_dataloader():
    """Return the calibration batches, without augmentation.

    They must not be among the samples that evaluate() scores.
    """
    files = sorted((DATA / "calibration").glob("*.jpg"))  # TODO: your calibration data
    samples = [load_sample(file) for file in files]
    return torch.utils.data.DataLoader(samples, batch_size=QUANT_CONFIG["batch_size"])


# Data in one array instead of files: load_sample() is not needed then, and the two loaders are
#     inputs = torch.from_numpy(numpy.load(DATA / "data.npz")["calibration"])
#     return inputs.split(QUANT_CONFIG["batch_size"])
# and, for load_test_batches(), return list(zip(inputs.split(32), labels.split(32))).


# Several inputs: a sample is a dict of tensors by the names in QUANT_CONFIG, such as
# "input_shape": {"image": [3, 224, 224], "scale": [1]}. Where the samples lie along another axis
# than the first, "batch_axis": {"state": 1} says so. The graph takes a dict in evaluate(), too:
#     executor.forward({name: value.to(device) for name, value in inputs.items()})


# Needed only where the loader yields more than the model's input, such as (images, labels).
# def collate_fn(batch):
#     images, labels = batch
#     return images


def evaluate(quant_graph):
    """Score the quantized graph on samples that are not used for calibration.

    It is called with the float graph too, so that both are scored on the same samples.
    """
    from esp_ppq.executor import TorchExecutor

    device = QUANT_CONFIG["device"]
    executor = TorchExecutor(graph=quant_graph, device=device)
    right = []
    for inputs, labels in load_test_batches():
        logits = executor.forward(inputs.to(device))[0]
        right += (logits.argmax(dim=1).cpu() == labels).tolist()
    # With one result per sample, the search can tell a gain from noise; it may be left out.
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}


def load_test_batches():
    """Return batches of (inputs, labels) of held-out data; here from data/test/LABEL/NAME.jpg."""
    files = sorted((DATA / "test").glob("*/*.jpg"))  # TODO: your test data
    if not files:
        raise NotImplementedError(f"{DATA / 'test'} has no samples")
    samples = [(load_sample(file), int(file.parent.name)) for file in files]
    return torch.utils.data.DataLoader(samples, batch_size=QUANT_CONFIG["batch_size"])


# A metric of which less is better, with "primary_metric": "error", "metric_direction": "min":
# def evaluate(quant_graph):
#     from esp_ppq.executor import TorchExecutor
#
#     executor = TorchExecutor(graph=quant_graph, device=QUANT_CONFIG["device"])
#     errors = []
#     for inputs, wanted in load_test_batches():
#         found = executor.forward(inputs.to(QUANT_CONFIG["device"]))[0].cpu()
#         errors += (found - wanted).abs().flatten(1).mean(dim=1).tolist()
#     return {"error": sum(errors) / len(errors), "per_sample": errors}


# No labels: leave out evaluate(), "primary_metric" and "metric_direction". The score is then how
# far the outputs are from the float model's on samples that do not calibrate: a quarter of the
# calibration data, or these.
# def create_score_dataloader():
#     files = sorted((DATA / "score").glob("*.jpg"))
#     samples = [load_sample(file) for file in files]
#     return torch.utils.data.DataLoader(samples, batch_size=QUANT_CONFIG["batch_size"])


# Optional: a quicker score for use while searching.
# def evaluate_fast(quant_graph):
#     ...


# Optional: the score of samples that evaluate() never scores, taken once, of the search's result.
# Define it before the first iteration: in a folder that has scores, it makes another contract.
# def evaluate_final(quant_graph):
#     ...

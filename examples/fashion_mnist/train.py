"""Train the network from scratch and write its weights.

All 60,000 training images are used but the last 512, which are kept for calibration. The
test split is only scored, after each epoch: the weights written are those of the last epoch,
whatever its score. One seed gives one result on one machine and one version of torch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from fashion_idx import CALIB_IMAGES, read_split
from fashion_net import FashionNet, normalise
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SHIFT = 2


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and move each by up to two pixels (uint8, ``[N, 28, 28]``)."""
    count, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None], images.flip(2), images)
    padded = nn.functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, count), generator=generator)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    index = torch.arange(count)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the percentage of images whose highest score is the right class."""
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(labels), 500):
            scores = model(normalise(images[start : start + 500]))
            right += int((scores.argmax(1) == labels[start : start + 500]).sum())
    return 100.0 * right / len(labels)


def main(
    make_network: Callable[[], nn.Module] = FashionNet,
    weights_file: Path = HERE / "weights.pt",
    description: str = __doc__ or "",
) -> None:
    """Train a network by the arguments given, print each epoch and write the weights."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with the idx .gz files")
    parser.add_argument("--out", type=Path, default=weights_file)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads for torch")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(args.seed)

    train_x, train_y = (torch.from_numpy(a) for a in read_split(args.data, "train"))
    test_x, test_y = (torch.from_numpy(a) for a in read_split(args.data, "t10k"))
    train_x, train_y = train_x[:-CALIB_IMAGES], train_y[:-CALIB_IMAGES].long()
    test_y = test_y.long()

    model = make_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(train_x) // args.batch
    optimizer = torch.optim.SGD(
        model.parameters(), args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * steps, pct_start=0.1
    )
    begin = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        model.train()
        order = torch.randperm(len(train_x), generator=generator)
        total = 0.0
        for step in range(steps):
            chosen = order[step * args.batch : (step + 1) * args.batch]
            images = normalise(augment(train_x[chosen], generator))
            loss = nn.functional.cross_entropy(model(images), train_y[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}/{args.epochs}: loss {total / steps:.4f}, "
            f"test {accuracy(model, test_x, test_y):.2f} %, "
            f"{time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.save(weights, args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

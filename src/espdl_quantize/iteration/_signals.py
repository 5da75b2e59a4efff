"""Signals that need no labels: how far the outputs are from the float model's, sample by sample.

The float model's outputs are kept while it is scored, and every quantized graph's are compared with
them while it is scored: no forward is added to what the contract's evaluation runs anyway.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from espdl_quantize.ppq import content_digest, sample_rows
from espdl_quantize.record import OutputSignal, Signals
from espdl_quantize.record.files import float_outputs
from espdl_quantize.stats import DIGEST, read_arrays, write_arrays

ELEMENTS = 1024
"""Of an output that has more per sample, so many are compared: the same ones of every sample."""

LIMIT = 64 << 20
"""Bytes of float outputs to keep; of what comes after, nothing is compared."""

_SHARE = 0.5
"""Of the samples, so many have to be compared. Where a state differs between the graphs and cannot
be recognized, only the first frame of each sequence is, which no state has reached yet."""

_STATES = 1 << 14
"""Outputs that are remembered to be recognized where they come in as a state."""

_STATE_BYTES = 16
"""A state has four numbers or more: a single one may be equal by chance."""

_SEED = 0


class Watcher:
    """Sees the forwards of one evaluation; what it says of them is empty until it has seen any.

    A sample is known by its content. Where part of that is a state, which an earlier forward put
    out, it is known by the sample whose state it is instead: so the frames of a sequence have the
    same digests in the float and in a quantized graph, whose states differ.

    Args:
        axes: of each input of the graph, the axis that holds the samples, None for one that is the
            same for all; without any, all have them first.

    Attributes:
        digests: of every sample, in the order of the forwards.
    """

    def __init__(self, axes: Sequence[int | None] | None = None) -> None:
        self.digests: list[bytes] = []
        self._axes = axes
        self._states: dict[bytes, bytes] = {}
        self._blank: set[bytes] = set()

    def __call__(self, inputs: list[Any], outputs: list[Any] | None) -> None:
        """See one forward."""
        rows = sample_rows(inputs, self._axes)
        digests = [content_digest(map(self._known, sample)) for sample in zip(*rows, strict=True)]
        self.digests += digests
        self._blank |= {
            digest
            for digest, sample in zip(digests, zip(*rows, strict=True), strict=True)
            if all(map(_is_blank, sample))
        }
        if outputs is None or not digests:
            return
        axes = [self._axis_of(output, inputs, len(digests)) for output in outputs]
        lengths = {len(row[0]) for row in rows}
        for number, (output, axis) in enumerate(zip(outputs, axes, strict=True)):
            if _STATE_BYTES <= _row_bytes(output, axis) in lengths:
                self._note_states(number, output, axis, digests)
        pairs = zip(outputs, axes, strict=True)
        self.see(digests, [_rows(output, len(digests), axis) for output, axis in pairs])

    def _known(self, content: bytes) -> bytes:
        """Return what stands for one input of a sample: the state's origin, or its content."""
        return self._states.get(content_digest([content]), content) if self._states else content

    def _note_states(
        self, number: int, output: Any, axis: int | None, digests: list[bytes]
    ) -> None:
        """Note what a forward put out and the next may take in; of the last forwards alone."""
        for digest, row in zip(digests, sample_rows([output], [axis])[0], strict=True):
            # A state of zeros is where sequences begin.
            if row.strip(b"\0"):
                self._states[content_digest([row])] = b"state %d of " % number + digest
        while len(self._states) > _STATES:
            del self._states[next(iter(self._states))]

    def _axis_of(self, output: Any, inputs: list[Any], samples: int) -> int | None:
        """Return the axis of an output that holds the samples; None where it is not known.

        Where an input has the same shape, as that of a state has, it is the input's.
        """
        shape = tuple(getattr(output, "shape", ()))
        for tensor, axis in zip(inputs, self._axes or (), strict=False):
            if axis and tuple(getattr(tensor, "shape", ())) == shape:
                return axis
        if shape[:1] == (samples,):
            return 0
        fitting = [axis for axis, size in enumerate(shape) if size == samples]
        return fitting[0] if len(fitting) == 1 else None

    def see(self, digests: list[bytes], outputs: list[Any]) -> None:
        """Look at outputs [samples, elements]; None for one that has no row per sample."""

    def shared_with(self, others: Collection[bytes]) -> int:
        """Count the samples whose content is among ``others``.

        Those that hold one number over and over, such as silence, are equal without being the same.
        """
        return sum(digest in others and digest not in self._blank for digest in self.digests)


class FloatOutputs(Watcher):
    """Keeps the float model's outputs, a row per sample, within LIMIT bytes."""

    def __init__(self, axes: Sequence[int | None] | None = None) -> None:
        super().__init__(axes)
        self._rows: dict[bytes, int] = {}
        self._values: list[list[Any]] = []
        self._decisions: list[list[Any]] = []
        self._bytes = 0

    def see(self, digests: list[bytes], outputs: list[Any]) -> None:
        """Keep the samples that are new."""
        new = [at for at, digest in enumerate(digests) if digest not in self._rows]
        if not new or self._bytes > LIMIT:
            return
        if not self._values:
            self._values = [[] for _ in outputs]
            self._decisions = [[] for _ in outputs]
        for digest in (digests[at] for at in new):
            self._rows.setdefault(digest, len(self._rows))
        # The same content twice in one batch has one row.
        first = {digests[at]: at for at in reversed(new)}
        places = sorted(first.values())
        for output, values, decisions in zip(outputs, self._values, self._decisions, strict=True):
            if output is None:
                continue
            kept, decided = output.kept[places], output.decisions[places]
            values.append(kept)
            decisions.append(decided)
            self._bytes += kept.nbytes + decided.nbytes

    def arrays(self) -> dict[str, Any]:
        """Return everything as arrays, to be written."""
        import numpy as np

        digests = b"".join(self._rows)
        arrays = {"digests": np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)}
        for number, (values, decisions) in enumerate(
            zip(self._values, self._decisions, strict=True)
        ):
            widths = {part.shape[1] for part in values}
            if len(widths) == 1 and sum(map(len, values)) == len(self._rows):
                arrays[f"values_{number}"] = np.concatenate(values)
                arrays[f"decisions_{number}"] = np.concatenate(decisions)
        return arrays

    def save(self, outputs: Path, used: str, key: str) -> None:
        """Write them into an output folder, with the key of the contract and the model."""
        import numpy as np

        arrays = self.arrays() | {"key": np.array(key)}
        write_arrays(float_outputs(outputs, used), arrays)


def has_float_outputs(outputs: Path, used: str, key: str) -> bool:
    """Tell whether an output folder has what the float model said, of this contract and model."""
    return bool(_load(outputs, used, key))


def float_samples(outputs: Path, used: str, key: str) -> set[bytes]:
    """Return the content of the samples whose float outputs are kept."""
    stored = _load(outputs, used, key).get("digests")
    return set() if stored is None else {row.tobytes() for row in stored}


class SignalMeter(Watcher):
    """Compares a quantized graph's outputs with the float model's.

    Args:
        outputs: the output folder, which keeps the float model's.
        used: the contract's function that is about to score.
        key: stands for the contract and the float model.
        names: of the graph's outputs.
        calibration: digests of the calibration samples: these are left out.
        axes: as :class:`Watcher`.
    """

    def __init__(
        self,
        outputs: Path,
        used: str,
        key: str,
        names: list[str],
        calibration: Collection[bytes],
        axes: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(axes)
        self._float = _load(outputs, used, key)
        stored = self._float.get("digests")
        self._row_of = (
            {} if stored is None else {row.tobytes(): at for at, row in enumerate(stored)}
        )
        self._names, self._calibration = names, calibration
        self._compared: list[bytes] = []
        self._noise: list[Any] = []
        self._agrees: list[Any] = []
        self._cosine: list[Any] = []

    def see(self, digests: list[bytes], outputs: list[Any]) -> None:
        """Compare the samples that are held out and that the float model saw, too."""
        import numpy as np

        places = [
            at
            for at, digest in enumerate(digests)
            if digest in self._row_of and digest not in self._calibration
        ]
        if not places or len(outputs) != len(self._names):
            return
        rows = [self._row_of[digests[at]] for at in places]
        self._compared += [digests[at] for at in places]
        measured = [
            _measure(output, places, self._float, number, rows)
            for number, output in enumerate(outputs)
        ]
        for parts, part in zip(
            (self._noise, self._agrees, self._cosine), zip(*measured, strict=True), strict=True
        ):
            parts.append(np.stack(part, axis=1))

    @property
    def compared(self) -> int:
        """How many samples were held against the float model's."""
        return len(self._compared)

    @property
    def misses_most(self) -> bool:
        """Whether most of the samples that the float model's outputs are kept of never came."""
        held_out = sum(digest not in self._calibration for digest in self._row_of)
        seen = sum(digest not in self._calibration for digest in self.digests)
        return self.compared < _SHARE * min(held_out, seen)

    def arrays(self) -> dict[str, Any]:
        """Return the signals of every sample for samples.npz; empty where there are none."""
        import numpy as np

        if not self._compared or self.misses_most:
            return {}
        digests = np.frombuffer(b"".join(self._compared), np.uint8).reshape(-1, DIGEST)
        return {
            "digests": digests,
            "noise": np.concatenate(self._noise).astype(np.float32),
            "agrees": np.concatenate(self._agrees).astype(np.float32),
        }

    def summary(self) -> Signals | None:
        """Return the means, over all samples and by output; None where most have no match."""
        import numpy as np

        if not self._compared or self.misses_most:
            return None
        noise, agrees, cosine = (
            np.concatenate(parts) for parts in (self._noise, self._agrees, self._cosine)
        )
        outputs = tuple(
            OutputSignal(
                name,
                noise_signal=_mean(noise[:, at]),
                agreement=_mean(agrees[:, at]),
                cosine=_mean(cosine[:, at]),
            )
            for at, name in enumerate(self._names)
        )
        return Signals(
            len(self._compared),
            noise_signal=_mean_of_known(output.noise_signal for output in outputs),
            agreement=_mean_of_known(output.agreement for output in outputs),
            outputs=outputs,
        )


class _Rows:
    """An output with a row per sample: the elements that are compared, and the largest's place."""

    def __init__(self, flat: Any, is_vector: bool) -> None:
        import numpy as np

        self.kept = flat[:, _places(flat.shape[1])] if flat.shape[1] > ELEMENTS else flat
        decided = flat.argmax(1) if is_vector else np.full(len(flat), -1)
        self.decisions = decided.astype(np.int32)


def _is_blank(content: bytes) -> bool:
    """Tell whether one input of a sample holds a single number over and over."""
    head = content[:4]
    return content[:64] == head * (len(content[:64]) // 4) and content == head * (len(content) // 4)


def _row_bytes(output: Any, axis: int | None) -> int:
    """Return the bytes of one sample of an output as float32; -1 where it has no samples."""
    size = None if axis is None else output.shape[axis]
    return 4 * int(output.numel()) // int(size) if size else -1


def _rows(output: Any, samples: int, axis: int | None) -> _Rows | None:
    import torch

    if not isinstance(output, torch.Tensor) or output.numel() == 0:
        return None
    if axis:
        output = output.movedim(axis, 0)
    elif axis is None:
        if samples != 1:
            return None
        output = output.reshape(1, -1)
    array = (
        output.detach().to("cpu", torch.float32).flatten(1)
        if output.dim() > 1
        else (output.detach().to("cpu", torch.float32).unsqueeze(1))
    )
    return _Rows(array.numpy(), output.dim() == 2 and output.shape[1] > 1)


def _places(elements: int) -> Any:
    import numpy as np

    return np.sort(np.random.default_rng(_SEED).choice(elements, ELEMENTS, replace=False))


def _measure(
    output: _Rows | None, places: list[int], stored: dict[str, Any], number: int, rows: list[int]
) -> tuple[Any, Any, Any]:
    """Return noise:signal power, agreement and cosine per sample; NaN for what does not apply.

    Noise:signal is esp-ppq's measure: the power of the difference over that of the float output.
    """
    import numpy as np

    nothing = np.full(len(places), np.nan)
    exact = stored.get(f"values_{number}")
    if output is None or exact is None or exact.shape[1] != output.kept.shape[1]:
        return nothing, nothing, nothing
    noisy, clean = output.kept[places].astype(np.float64), exact[rows].astype(np.float64)
    signal = (clean**2).sum(1)
    noise = ((noisy - clean) ** 2).sum(1) / (signal + _FLOOR)
    length = np.sqrt((noisy**2).sum(1) * signal)
    cosine = (noisy * clean).sum(1) / np.where(length == 0, 1, length)
    decided = stored[f"decisions_{number}"][rows]
    agrees = np.where(decided < 0, np.nan, decided == output.decisions[places])
    return noise, agrees, np.where(length == 0, np.nan, cosine)


_FLOOR = 1e-7
"""What esp-ppq's torch_snr_error adds to the power of the signal."""


def _load(outputs: Path, used: str, key: str) -> dict[str, Any]:
    arrays = read_arrays(float_outputs(outputs, used))
    stored = arrays.get("key")
    digests = arrays.get("digests")
    fits = stored is not None and str(stored) == key
    shaped = digests is not None and digests.ndim == 2 and digests.shape[1] == DIGEST
    return arrays if fits and shaped else {}


def _mean(values: Any) -> float | None:
    import numpy as np

    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None

"""What to do about an exception of other people's code, by what it says.

torch, esp-ppq and numpy name what stopped them, and not what to change. Each entry is one cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FLOAT32 = (
    "give float32: call .float() on what create_calib_dataloader() yields and evaluate() passes on "
    "(numpy's default is float64), and let the model be float32"
)
_RUN = 'run it: TorchExecutor(graph=quant_graph, device="cpu").forward(batch)'
_LIST = "forward() returns a list, one tensor per output of the model: take forward(batch)[0]"

_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"'BaseGraph' object is not callable|'BaseGraph' object has no attribute", _RUN),
    (r"'TorchExecutor' object has no attribute '(eval|cpu|cuda|to|train)'", _RUN),
    (r"'list' object has no attribute|list indices must be integers or slices, not", _LIST),
    (r"must be Tensor, not list|unsupported operand type\(s\) for .*'list'", _LIST),
    (r"Input type \([\w:]+\) and (bias|weight) type \([\w:]+\) should be the same", _FLOAT32),
    (r"expected scalar type \w+ but found \w+|must have the same dtype", _FLOAT32),
    (r"expected .* to have the same dtype|not implemented for '(Half|BFloat16|Double)'", _FLOAT32),
    (
        r"argument #?\d+ 'indices' to have one of|tensors used as indices must be long",
        "the model reads integer ids, and every input of a quantized model holds numbers: leave "
        "the embedding out of the model, and give it what the embedding puts out",
    ),
    (
        r"'numpy\.ndarray' object has no attribute|must be Tensor, not numpy\.ndarray",
        "give tensors: torch.from_numpy(array).float()",
    ),
    (
        r"to be on the same device|Expected object of device type",
        'move what is passed to the contract\'s "device", by .to(QUANT_CONFIG["device"])',
    ),
    (
        r"to have \d+ channels, but got \d+ channels",
        "give channels first, [batch, channels, height, width], as many as the model's first layer "
        "takes, and input_shape alike",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch, m1",
        "see that input_shape is what the model was built for: the number of features that a "
        "Linear reads follows from it",
    ),
    (
        r"forward\(\) (missing|takes)|got an unexpected keyword argument",
        "let a batch hold one tensor per argument of forward(), in their order or under their "
        "names, and input_shape a shape for each",
    ),
    (
        r"No such file or directory",
        "give a path that does not depend on the working directory, such as "
        "Path(__file__).parent / name",
    ),
    (r"^No module named", "install it where espdl-quantize is installed"),
    (
        r"\((If|Loop|Scan)\) has no backend implementation",
        "no graph that is quantized has control flow: export the one branch that runs on the chip, "
        "or compute both and choose by arithmetic",
    ),
    (
        r"\((\w*QuantizeLinear|DequantizeLinear|QLinear\w+|\w+Integer)\) has no",
        "the file is quantized already: give the float model that it was made of",
    ),
    (
        r"\((Dropout|RandomNormal(Like)?|RandomUniform(Like)?|Bernoulli|Multinomial)\) has no",
        "the model draws random numbers while it infers: give functional.dropout "
        "training=self.training, and add noise in training alone",
    ),
    (
        r"uninitialized parameter",
        "call the model once on a sample in get_torch_model(), which gives its lazy layers their "
        "shapes, then load the weights",
    ),
    (
        r"dynamo-optimized function",
        "return the model as it was before torch.compile: it is in model._orig_mod",
    ),
    (
        r"meta tensor; no data",
        'the model has no weights: build it on a device, not on "meta", and load them',
    ),
    (
        r"maximum recursion depth exceeded",
        "see which function calls itself",
    ),
    (
        r"has no backend implementation",
        "esp-ppq has no such op: replace it in the model by ops that esp-ppq has, or leave it out "
        "and compute it in the program on the chip and in evaluate()",
    ),
    (
        r"element of type float at pos|only integer tensors of a single element can be converted",
        "the model computes shapes from its input: export it with a fixed input shape, without "
        "dynamic axes",
    ),
    (r"is only implemented on integer and Boolean", "leave logic on floats out of the model"),
)


def remedy_for(error: BaseException) -> str:
    """Return what to do about an exception, by its root cause; empty where that is not known."""
    for cause in _chain(error):
        text = str(cause)
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, text, re.MULTILINE):
                return remedy
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came of, the root first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        if cause in chain:
            break
        chain.append(cause)
    yield from reversed(chain)

"""The C header with a model's exponents, and functions that quantize and dequantize."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from espdl_quantize.core import Json
from espdl_quantize.targets import Rounding

_HEAD = """\
/* What a program needs to know of the model: exponents, shapes, and how to convert.
 *
 * The model computes with integers: real value = integer * 2^exponent. To run it on your own data,
 * quantize each input in the order of the layout below, let the model run, and dequantize:
 *
 *     for (int i = 0; i < model_inputs[0].count; i++) {
 *         data[i] = model_quantize_int8(pixels[i], model_inputs[0].exponent);
 *     }
 *     model->run();
 *     float score = model_dequantize(result[0], model_outputs[0].exponent);
 *
 * `pixels` are the numbers that the float model was given: preprocess as it was calibrated.
 */
#pragma once

#include <math.h>
#include <stdint.h>

"""

_TYPE = """
typedef struct {
    const char *name;
    const char *type;   /* int8, int16, float32, ... */
    const char *shape;  /* with its layout, where that is known */
    int exponent;       /* 0 for a type that has none */
    int count;
} model_tensor_t;

"""

_FUNCTIONS = """
static inline double model_scaled(float value, int exponent, double low, double high)
{
    const double scaled = ldexp((double)value, -exponent);
    const double rounded = %s;
    if (!(rounded > low)) {
        return low; /* a NaN, too */
    }
    return rounded < high ? rounded : high;
}

/* Quantizes as the chip rounds (%s). */
static inline int8_t model_quantize_int8(float value, int exponent)
{
    return (int8_t)model_scaled(value, exponent, -128.0, 127.0);
}

static inline int16_t model_quantize_int16(float value, int exponent)
{
    return (int16_t)model_scaled(value, exponent, -32768.0, 32767.0);
}

static inline float model_dequantize(int32_t value, int exponent)
{
    return (float)ldexp((double)value, exponent);
}
"""


def header(card: Json, chip: str, rounding: Rounding, defines: Mapping[str, str]) -> str:
    """Return the text of model_io.h.

    Args:
        card: what :func:`espdl_quantize.deploy.describe` found.
        chip: what the project is built for.
        rounding: of that chip.
        defines: further macros, each with C source as its value.
    """
    macros = {
        "MODEL_CHIP": c_string(chip),
        "MODEL_SHA256": c_string(card["sha256"]),
        "MODEL_NAME": c_string(card.get("model_name") or "model"),
        **defines,
    }
    half_up = rounding == "half-up"
    return "".join(
        [
            _HEAD,
            *(f"#define {name} {value}\n" for name, value in macros.items()),
            _TYPE,
            _table("model_inputs", card["inputs"]),
            _table("model_outputs", card["outputs"]),
            _FUNCTIONS
            % (
                "floor(scaled + 0.5)" if half_up else "nearbyint(scaled)",
                "halves up" if half_up else "halves to even",
            ),
        ]
    )


def c_string(text: object) -> str:
    """Return a C string literal that holds any text, without a character that C gives a meaning."""
    out = []
    for byte in str(text).encode("utf-8", "replace")[:400]:
        char = chr(byte)
        # Three digits: no digit that follows can join them. "?" begins a trigraph.
        is_plain = (char.isascii() and char.isalnum()) or char in " _-./:,*[]()"
        out.append(char if is_plain else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def _table(name: str, tensors: list[Json]) -> str:
    rows = ",\n".join(f"    {{{', '.join(_row(tensor))}}}" for tensor in tensors)
    count = f"#define {name.upper()} {len(tensors)}\n"
    return f"{count}static const model_tensor_t {name}[] = {{\n{rows}\n}};\n"


def _row(tensor: Json) -> list[Any]:
    shape: list[int] = tensor["shape"] or []
    layout = f" {tensor['layout']}" if tensor.get("layout") else ""
    return [
        c_string(tensor["name"]),
        c_string(tensor["dtype"]),
        c_string(f"{'x'.join(map(str, shape))}{layout}"),
        str(tensor["exponent"] or 0),
        str(math.prod(shape)),
    ]

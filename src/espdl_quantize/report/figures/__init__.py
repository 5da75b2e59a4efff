"""The charts of report.html as plain data for plotly.js; nothing here imports plotly."""

from espdl_quantize.report.figures._base import Figure, label
from espdl_quantize.report.figures._cost import cost_figure
from espdl_quantize.report.figures._histograms import histogram_figures
from espdl_quantize.report.figures._layers import (
    TRAINED_TOGETHER,
    LayerRow,
    layer_figure,
    layer_rows,
)
from espdl_quantize.report.figures._levers import lever_figure
from espdl_quantize.report.figures._metric import metric_figure, phase_of
from espdl_quantize.report.figures._training import Spark, last_training, spark, training_figure
from espdl_quantize.report.figures.graph import GraphMap, graph_map

__all__ = [
    "TRAINED_TOGETHER",
    "Figure",
    "GraphMap",
    "LayerRow",
    "Spark",
    "cost_figure",
    "graph_map",
    "histogram_figures",
    "label",
    "last_training",
    "layer_figure",
    "layer_rows",
    "lever_figure",
    "metric_figure",
    "phase_of",
    "spark",
    "training_figure",
]

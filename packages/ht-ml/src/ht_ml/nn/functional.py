"""Layers, activations and losses on distributed arrays; torch tensors, and every other name, go to torch.nn.functional.

Names and arguments are torch's. The functions are made of this project's array operations, so that they work for any
split of data and weights, and have gradients where an operand is tracked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ht_core as ht
import torch
from ht_core import DNDarray
from ht_core.engines.elementwise import Row, execute
from ht_core.errors import DTypeError, LayoutError
from ht_linalg import matmul

__all__ = [
    "cross_entropy",
    "elu",
    "gelu",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(torch.nn.functional, name)


def _tensors_to_torch(function: Callable) -> Callable:
    """Let torch do it where the first argument is a tensor: modules are often written with these names."""
    torch_function = getattr(torch.nn.functional, function.__name__)

    @functools.wraps(function)
    def choose(input, *args, **kwargs):
        chosen = torch_function if isinstance(input, torch.Tensor) else function
        return chosen(input, *args, **kwargs)

    return choose


@functools.lru_cache(64)
def _row(name: str, kernel: Callable, *parameters: float) -> Row:
    def local(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        value = kernel(x, *parameters)
        return value if out is None else out.copy_(value)

    return Row(name, local, "f", "common", "common", None)


def _apply(name: str, kernel: Callable, input: Any, *parameters: float) -> DNDarray:
    return execute(_row(name, kernel, *parameters), (input,), None)


def _activation(name: str, kernel: Callable[[torch.Tensor], torch.Tensor], formula: str) -> Callable:
    """Define an activation without parameters."""

    def function(input: DNDarray) -> DNDarray:
        return _apply(name, kernel, input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Return {formula}, element by element.

    Parameters
    ----------
    input : DNDarray
        Of a floating dtype.

    Returns
    -------
    DNDarray
        Of the dtype and layout of `input`. No message.
    """
    return _tensors_to_torch(function)


relu = _activation("relu", torch.relu, "max(x, 0)")
sigmoid = _activation("sigmoid", torch.sigmoid, "1 / (1 + exp(-x))")
silu = _activation("silu", torch.nn.functional.silu, "x * sigmoid(x)")
tanh = _activation("tanh", torch.tanh, "tanh(x)")


@_tensors_to_torch
def gelu(input: DNDarray, approximate: str = "none") -> DNDarray:
    """Return x times the normal distribution function of x; `approximate` may be "tanh". No message."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _apply("gelu", _gelu if approximate == "none" else _gelu_tanh, input)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x)


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


@_tensors_to_torch
def leaky_relu(input: DNDarray, negative_slope: float = 0.01) -> DNDarray:
    """Return x where it is positive, `negative_slope` times x elsewhere. No message."""
    return _apply("leaky_relu", torch.nn.functional.leaky_relu, input, float(negative_slope))


@_tensors_to_torch
def elu(input: DNDarray, alpha: float = 1.0) -> DNDarray:
    """Return x where it is positive, ``alpha * (exp(x) - 1)`` elsewhere. No message."""
    return _apply("elu", torch.nn.functional.elu, input, float(alpha))


@_tensors_to_torch
def softplus(input: DNDarray, beta: float = 1.0, threshold: float = 20.0) -> DNDarray:
    """Return ``log(1 + exp(beta x)) / beta``, and x where ``beta x > threshold``. No message."""
    return _apply("softplus", torch.nn.functional.softplus, input, float(beta), float(threshold))


@_tensors_to_torch
def linear(input: DNDarray, weight: DNDarray, bias: DNDarray | None = None) -> DNDarray:
    """Return ``input @ weight.T + bias``.

    Parameters
    ----------
    input : DNDarray, shape (..., n_in)
    weight : DNDarray, shape (n_out, n_in)
        Any split of both.
    bias : DNDarray, shape (n_out,), optional

    Returns
    -------
    DNDarray, shape (..., n_out)

    Notes
    -----
    *Distribution*: that of `ht_linalg.matmul`. With data split by rows and replicated weights no message; with
    replicated data and weights split along the outputs none either, the result is split along them. Adding the
    bias brings it to the layout of the product.

    Examples
    --------
    >>> x, w = ht.ones((2, 3), split=0), ht.ones((4, 3))
    >>> ht.nn.functional.relu(ht.nn.functional.linear(x, w, ht.full(4, -1.0))).numpy().tolist()
    [[2.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0]]
    """
    product = matmul(input, ht.transpose(weight))
    return product if bias is None else product + bias


@_tensors_to_torch
def softmax(input: DNDarray, dim: int = -1) -> DNDarray:
    """Return ``exp(x) / sum(exp(x))`` along an axis; with the maximum taken off first, nothing overflows.

    *Distribution*: the layout stays. Along the split axis two allreduces (maximum and sum), along others none.

    Examples
    --------
    >>> ht.nn.functional.softmax(ht.zeros((2, 4), split=1)).numpy().tolist()
    [[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]
    """
    powers = ht.exp(_shifted("softmax", input, dim))
    return powers / ht.sum(powers, axis=dim, keepdims=True)


@_tensors_to_torch
def log_softmax(input: DNDarray, dim: int = -1) -> DNDarray:
    """Return the logarithm of `softmax`, without underflow. Distribution as there."""
    shifted = _shifted("log_softmax", input, dim)
    return shifted - ht.log(ht.sum(ht.exp(shifted), axis=dim, keepdims=True))


def _shifted(op: str, x: DNDarray, dim: int) -> DNDarray:
    if not isinstance(x, DNDarray) or x.dtype.kind != "f":
        got = x.dtype if isinstance(x, DNDarray) else type(x).__name__
        raise DTypeError(f"{op}: input must be a DNDarray of a floating dtype, got {got}")
    return x - ht.max(x, axis=dim, keepdims=True)


def _reduced(op: str, values: DNDarray, reduction: str) -> DNDarray:
    if reduction == "none":
        return values
    return ht.mean(values) if reduction == "mean" else ht.sum(values)


def _check_reduction(op: str, reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{op}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


@_tensors_to_torch
def mse_loss(input: DNDarray, target: DNDarray, reduction: str = "mean") -> DNDarray:
    """Return the mean (or sum) of squared differences; "none": each of them.

    *Distribution*: one allreduce of one or two numbers, none for "none" and replicated arrays.
    """
    _check_reduction("mse_loss", reduction)
    if tuple(input.shape) != tuple(target.shape):
        raise LayoutError(f"mse_loss: target must have the shape {input.shape} of input, got {target.shape}")
    return _reduced("mse_loss", ht.square(input - target), reduction)


@_tensors_to_torch
def cross_entropy(input: DNDarray, target: DNDarray, reduction: str = "mean") -> DNDarray:
    """Return the mean (or sum) of minus the log-probability of the target classes; "none": each of them.

    Parameters
    ----------
    input : DNDarray, shape (n, classes)
        Scores before softmax.
    target : DNDarray of integers, shape (n,)
        Class numbers.
    reduction : "mean", "sum" or "none"

    Notes
    -----
    *Distribution*: that of `log_softmax`, and one allreduce of a number. With classes split, one more of n numbers; the
    target is brought to the layout of the rows.

    Examples
    --------
    >>> scores = ht.zeros((4, 8), split=0)
    >>> round(float(ht.nn.functional.cross_entropy(scores, ht.arange(4, split=0))), 4)
    2.0794
    """
    _check_reduction("cross_entropy", reduction)
    if input.ndim != 2 or tuple(target.shape) != (input.shape[0],):
        raise LayoutError(
            "cross_entropy: input and target must have the shapes (n, classes) and (n,), got "
            f"{input.shape} and {target.shape}"
        )
    logs = log_softmax(input, 1)
    classes = ht.arange(input.shape[1], split=0 if input.split == 1 else None, comm=input.comm)
    hits = ht.expand_dims(target, 1) == ht.expand_dims(classes, 0)
    picked = ht.sum(ht.where(hits, logs, 0.0), axis=1)
    return _reduced("cross_entropy", -picked, reduction)

"""A linear layer for inference: ``activation(x @ weight.T + bias) + residual``, in the form that is fastest here.

``Plain`` is torch's own product. ``Packed`` has its weights laid out once for oneDNN, in fp32 or bf16, and adds bias,
activation and residual while a result is still in the registers; on many processors it is up to twice as fast as the
library that torch uses for fp32. ``Int8`` multiplies bytes: weights have one scale per output, activations one per row,
found as they come, so that a row never depends on what stands beside it (Dettmers et al. 2022, "LLM.int8()", arXiv
2208.07339, section 2, without the part for outliers; Yao et al. 2022, "ZeroQuant", arXiv 2206.01861, section 4.1).

The entry points of ``Packed`` and ``Int8`` are private to torch. ``works`` tries each once per process, for the right
result and for speed; what does not work is left for ``Plain``, and the log says so.
"""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from intermodal import runtime

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "gelu": F.gelu, "swish": F.silu}
_FEW = 126.0  # not 127: a row's scale is rounded to bf16, and its largest value must still fit
_LOG = logging.getLogger(__name__)


class Plain:
    """torch's own product, on any device."""

    def __init__(self, weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"], activation: str = "none") -> None:
        """Keeps the weights as they are."""
        self.weight, self.bias, self.activation = weight, bias, ACTIVATIONS[activation]

    def __call__(self, x: Float[Tensor, "M K"], residual: Tensor | None = None) -> Float[Tensor, "M N"]:
        """Returns the product after the activation, plus ``residual`` where there is one."""
        y = self.activation(F.linear(x, self.weight, self.bias))
        return y if residual is None else residual + y


class Packed:
    """The product by oneDNN; the weights are a copy in its own order."""

    def __init__(self, weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"], activation: str = "none") -> None:
        """Lays out the weights."""
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, 512)
        self.bias, self.activation = bias, activation
        self.algorithm = "none" if activation == "gelu" else ""

    def __call__(self, x: Float[Tensor, "M K"], residual: Tensor | None = None) -> Float[Tensor, "M N"]:
        """Returns the product after the activation; or, without one, plus ``residual``."""
        # pointwise takes one or the other, and no layer here has both
        if residual is not None:
            added: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
            return added
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, self.activation, [], self.algorithm
        )
        return product


class Int8:
    """The product of bytes by oneDNN."""

    def __init__(self, weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"], activation: str = "none") -> None:
        """Rounds the weights to 127 steps on either side of zero, per output, and lays them out."""
        self.scales = (weight.abs().amax(dim=1).float() / 127).clamp_(min=1e-12)
        steps = (weight.float() / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(steps, None)
        self.zeros = torch.zeros(len(steps), dtype=torch.int32)
        self.bias = bias.float()
        self.narrow = bias.to(_float(8))
        self.activation = activation

    def __call__(self, x: Float[Tensor, "M K"], residual: Tensor | None = None) -> Float[Tensor, "M N"]:
        """Returns the product after the activation, or in fp32 plus ``residual``, which must be fp32."""
        steps, scale = rows_to_bytes(x)
        if residual is not None:
            return residual.addcmul(self._product(steps, 128, torch.float32), scale).add_(self.bias)
        y = torch.addcmul(self.narrow, self._product(steps, 128, self.narrow.dtype), scale.to(self.narrow.dtype))
        return ACTIVATIONS[self.activation](y)

    def of_bytes(self, x: Tensor) -> Float[Tensor, "M N"]:
        """Returns the product with rows of bytes 0 to 255 as they are, in fp32."""
        return self._product(x, 0, torch.float32).add_(self.bias)

    def _product(self, steps: Tensor, zero: int, dtype: torch.dtype) -> Tensor:
        """Returns the product of bytes, of which ``zero`` stands for 0, with the weights, without the bias."""
        operation = torch.ops.onednn.qlinear_pointwise
        y: Tensor = operation(
            steps, 1.0, zero, self.weight, self.scales, self.zeros, None, 1.0, 0, dtype, "none", [], ""
        )
        return y


Product = Plain | Packed | Int8


def rows_to_bytes(x: Float[Tensor, "M K"]) -> tuple[Tensor, Float[Tensor, "M 1"]]:
    """Returns each row in bytes, of which 128 stands for 0, and what one step is worth in each row, in fp32."""
    if x.dtype == torch.float32:
        steps_per_unit = _FEW / x.abs().amax(dim=1, keepdim=True).clamp_(min=1e-6)
        steps = torch.addcmul(_half(), x, steps_per_unit).to(torch.int16).to(torch.uint8)
    else:  # bf16 has too few digits for that sum; without their sign its bits rise as the numbers do
        largest = x.view(torch.int16).bitwise_and(0x7FFF).amax(dim=1, keepdim=True).view(x.dtype)
        steps_per_unit = _FEW / largest.clamp_(min=1e-6)
        steps = torch.mul(x, steps_per_unit).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
    return steps, steps_per_unit.float().reciprocal_()


@cache
def _half() -> Tensor:
    """Returns 128 and a half: what is cut off after it was added has been rounded."""
    return torch.tensor(128.5)


def _float(bits: int) -> torch.dtype:
    """Returns what a product of so many bits is given in where it is not fp32: bf16 if the processor has it."""
    return torch.bfloat16 if bits < 32 and runtime.has_bf16(torch.device("cpu")) else torch.float32


def product(weight: Float[Tensor, "N K"], bias: Tensor | None, precision: str, activation: str = "none") -> Product:
    """Returns a linear layer in a precision of ``runtime.PRECISIONS``, in the form that is fastest where it is.

    Args:
        weight: one row per output, in any precision.
        bias: one number per output; None for zeros.
        precision: of the products, made ``available``. In int8 the rows may be fp32 or bf16, else they must be that.
        activation: one of ``ACTIVATIONS``.
    """
    weight = weight.detach()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    chosen = available(precision, weight.device)
    if chosen == "int8":
        return Int8(weight, bias, activation)
    dtype = torch.float32 if chosen == "fp32" else torch.bfloat16
    form = Packed if weight.device.type == "cpu" and works(chosen) else Plain
    return form(weight.to(dtype), bias.to(dtype), activation)


def available(precision: str, where: torch.device) -> str:
    """Returns the precision, or in the place of an int8 that does not work here bf16 or fp32; the log says so."""
    if precision != "int8" or (where.type == "cpu" and works("int8")):
        return precision
    return "bf16" if runtime.has_bf16(where) else "fp32"


@cache
def works(precision: str) -> bool:
    """Returns whether products of this precision are right and fast by the private entry points; tried once.

    In fp32 they must be as fast as torch's own. In bf16, and in int8 beside fp32, half as fast is enough: there another
    form rounds otherwise, so the choice must not hang on chance, and what is to be told apart is far slower (a thousand
    times, or wrong where sums of two products overflow, on processors that do not multiply bytes).
    """
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, weight = (torch.randn(256, 512, generator=generator).to(dtype) for _ in range(2))
    weight = torch.cat((weight, weight))
    bias = torch.randn(len(weight), generator=generator).to(dtype)
    form: Any = Int8 if precision == "int8" else Packed
    try:
        few = form(weight[:, :32].contiguous(), bias)
        if min(_seconds(lambda: few(x[:32, :32].contiguous())) for _ in range(3)) > 0.01:
            raise RuntimeError("it is far too slow")
        theirs, ours = Plain(weight, bias, "gelu"), form(weight, bias, "gelu")
        _check(ours(x), theirs(x), precision)
        _check(form(weight.abs(), bias)(x.abs()), Plain(weight.abs(), bias)(x.abs()), precision)
        times = [(_seconds(lambda: ours(x)), _seconds(lambda: theirs(x))) for _ in range(5)]
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        _LOG.warning("products in %s are computed by torch's own functions: %s", precision, str(error).split("\n")[0])
        return False
    mine, plain = (min(column) for column in zip(*times, strict=True))
    _LOG.debug("a product in %s takes %.3f ms, by torch's own function %.3f ms", precision, 1e3 * mine, 1e3 * plain)
    slack = 1.0 if precision == "fp32" else 2.0
    return bool(mine <= slack * plain)


def _check(found: Tensor, expected: Tensor, precision: str) -> None:
    """Raises RuntimeError where a product is not what it should be."""
    share = {"fp32": 1e-5, "bf16": 2e-2, "int8": 5e-2}[precision]
    gap = float((found.float() - expected.float()).norm() / expected.float().norm())
    if not gap <= share:
        raise RuntimeError(f"its result differs by {gap:.1e} of itself")


def _seconds(run: Callable[[], object]) -> float:
    """Returns the seconds that one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

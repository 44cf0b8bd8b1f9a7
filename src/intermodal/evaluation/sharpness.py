"""Sharpness: how much of a picture changes from one pixel to the next.

Source: the variance of the Laplacian, Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".
Noise counts as detail: compare with the sharpness of real pictures, of which more is no better.
"""

import numpy as np
from jaxtyping import Float, Num

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array


def sharpness(pictures: Num[Array, "N C H W"]) -> Float[np.ndarray, " N"]:
    """Returns the variance of each picture's Laplacian, mean over the channels.

    The Laplacian of a pixel is the sum of its four neighbours less four times itself; the edge has none.

    Args:
        pictures: in any one unit; the result is in its square.

    Raises:
        InvalidValue: no pictures, pictures below 3 x 3, or values that are not finite.
    """
    x = np.asarray(pictures, np.float64)
    if x.ndim != 4 or not len(x) or min(x.shape[2:]) < 3:
        raise InvalidValue(
            f"pictures have the shape {x.shape}; give (N, C, H, W) of at least 3 x 3 pixels, one or more"
        )
    if not np.isfinite(x).all():
        raise InvalidValue("some values are not finite; a model that gives such cannot be measured")
    middle = x[:, :, 1:-1, 1:-1]
    around = x[:, :, :-2, 1:-1] + x[:, :, 2:, 1:-1] + x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:]
    result: np.ndarray = (around - 4 * middle).var(axis=(2, 3)).mean(axis=1)
    return result

"""Arrays to numbers: metrics that know no model and no loader.

Every function takes NumPy arrays or torch tensors on the CPU without gradient, and gives a number or a dictionary of
numbers, the counts among them.
"""

import numpy as np
from torch import Tensor

Array = np.ndarray | Tensor
"""What the metrics take."""

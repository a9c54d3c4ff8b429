"""The error of linear algebra, known to users of NumPy and of torch alike."""

import numpy as np
import torch


class LinAlgError(np.linalg.LinAlgError, torch.linalg.LinAlgError):
    """A matrix is singular or not positive definite, or an iteration does not converge."""

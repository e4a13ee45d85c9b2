"""What compression and sensors leave in a picture: blocks and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels; JPEG's, and the latents' of SDXL
LEAST_SIDE = 3 * BLOCK  # under that there is no grid to see

_LAPLACIANS = np.array([(1, -2, 1), (-2, 4, -2), (1, -2, 1)], np.float32)  # blind to slow changes of brightness
_GAIN = 6.0  # the deviation that this filter makes of white noise of deviation 1
_MEDIAN_OF_NORMAL = 0.6745  # the median of |x| for a normal distribution of deviation 1


def blockiness(grey: NDArray[np.uint8]) -> float:
    """By how much brightness jumps more at the edges of 8-pixel blocks than beside them; 0 or more, clean is under 0.2.

    The no-reference measure of Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of JPEG compressed
    images" (ICIP 2002), without its fit to viewers: the jump between two columns over that of its neighbours, taken at
    each place of the grid, as a picture may have been cropped; its median, so that a drawn edge counts for nothing;
    divided by the usual jump. Measured on photos: JPEG quality 75 0.1 to 0.2, 20 0.7 to 1, 5 1.8 to 3.

    Args:
        grey: uint8 of shape (height, width), not resized since it was compressed; under 24 pixels a side it is 0.0.
    """
    if min(grey.shape) < LEAST_SIDE:
        return 0.0
    return min(_jumps_of_the_grid(grey), _jumps_of_the_grid(grey.T))


def _jumps_of_the_grid(grey: NDArray[np.uint8]) -> float:
    jumps = cv2.absdiff(np.ascontiguousarray(grey[:, 1:]), np.ascontiguousarray(grey[:, :-1])).mean(axis=0)
    beyond = jumps[1:-1] - (jumps[:-2] + jumps[2:]) / 2
    strongest = max(float(np.median(beyond[start::BLOCK])) for start in range(BLOCK))
    return max(0.0, strongest) / max(float(jumps.mean()), 0.5)


def noise(grey: NDArray[np.uint8]) -> float:
    """The standard deviation of the noise in grey levels, 0 to 255; texture counts as a little noise.

    The filter is Immerkaer's, "Fast noise variance estimation" (CVIU 64(2), 1996); its answer is read off by the median
    instead of the mean, which edges would raise. Measured: photos 1 to 2, with noise of 12 added 8 to 9.

    Args:
        grey: uint8 of shape (height, width); under 3 pixels a side it is 0.0.
    """
    if min(grey.shape) < 3:
        return 0.0
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, _LAPLACIANS)[1:-1, 1:-1])
    return float(np.median(response)) / (_GAIN * _MEDIAN_OF_NORMAL)

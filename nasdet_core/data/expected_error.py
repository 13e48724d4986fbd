"""How large the ± of AP on a split will be, told from its annotations before anything is trained.

AP is the mean over the C classes that have objects, and the AP of a class with n objects varies with the choice of
pictures about like a proportion of n trials:

    error = sqrt(sum over classes of min(0.26^2 / n + 0.48^2 / n^2, 0.5^2)) / C

0.26 is the spread of what one object adds to the AP of its class (an average over ten IoU thresholds, so less than
the 0.5 of found or not found); the second term says that with very few objects a class is all or nothing; no value
between 0 and 1 spreads by more than 0.5.

Calibrated on the standard error of `evaluation.coco_map` (a jackknife over pictures), for detections of AP 0.25 to 0.6
simulated on the real annotations of BCCD (test, val), the freely licensed COCO pictures (train, val, both), 100 COCO
val2014 pictures (also with the example detections that come with COCO's tools) and the demo's scenes (40 to 480), and
for the winner of the BCCD example, which was trained: ± 0.012 measured on test, 0.015 expected. All eleven expected
errors are within a factor 1.3 of the measured ones.

It is the error by the choice of the pictures. How much another seed of the training moves AP is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nasdet_core.data.in_memory import Annotation

SPREAD_OF_AN_OBJECT = 0.26
SPREAD_OF_A_LONE_OBJECT = 0.48
LARGEST_SPREAD = 0.5
PAIRED_SHARE = 0.65
"""Paired error of two candidates of one search, over the error of a single AP: 0.0055 over 0.0085, the median over 40
candidates from one supernet on 159 pictures of BCCD. Unlike detectors share less (simulated: up to 1.4)."""


def expected_ap_error(annotations: Iterable[Annotation], num_classes: int) -> float | None:
    """Standard error of AP (0..1) to expect on pictures with these objects; crowd and difficult ones do not count.

    None where no error can be told: fewer than two pictures have an object.
    """
    objects = np.zeros(num_classes, dtype=np.int64)
    pictures = 0
    for annotation in annotations:
        counted = annotation.labels[annotation.trainable]
        objects += np.bincount(counted, minlength=num_classes)
        pictures += len(counted) > 0
    if pictures < 2:
        return None
    present = objects[objects > 0].astype(np.float64)
    variance = (SPREAD_OF_AN_OBJECT**2 + SPREAD_OF_A_LONE_OBJECT**2 / present) / present
    return float(np.sqrt(np.minimum(variance, LARGEST_SPREAD**2).sum()) / len(present))


def smallest_difference(ap_error: float) -> float:
    """The smallest difference of AP between two candidates of one search that counts: two paired errors.

    `ap_error` is the (expected) error of a single AP. Both candidates see the same pictures, so what makes a picture
    hard for both does not count, and their difference is surer than either AP.
    """
    return 2 * PAIRED_SHARE * ap_error

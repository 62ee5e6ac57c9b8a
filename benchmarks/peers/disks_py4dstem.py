"""py4DSTEM 0.14: its detection of disks, pattern by pattern, as `_disks` asks for it."""

import py4DSTEM
from _disks import answer
from py4DSTEM.braggvectors.diskdetection import find_Bragg_disks

KERNELS = {"flat": {}, "sigmoid": {"radii": (1.0, 2.0)}}
VARIANTS = {
    f"{kernel}, {subpixel}, corrPower {power}": (kernel, subpixel, power)
    for kernel in KERNELS
    for subpixel in ("poly", "multicorr")
    for power in (1.0, 0.8)
}


def find(counts, image, radius, center, variant):
    """Return y, x and intensity of every disk of a pattern."""
    kernel, subpixel, power = VARIANTS[variant]
    options = {k: tuple(radius * r for r in v) for k, v in KERNELS[kernel].items()}
    probe = py4DSTEM.Probe(image)
    template = probe.get_kernel(kernel, origin=center, returncalc=True, **options)
    found = find_Bragg_disks(
        data=counts,
        template=template,
        corrPower=power,
        sigma_cc=2,
        subpixel=subpixel,
        upsample_factor=16,
        minPeakSpacing=radius,
        edgeBoundary=round(radius),
        maxNumPeaks=384,
    )
    return found.data["qx"], found.data["qy"], found.data["intensity"]


answer(find, list(VARIANTS))

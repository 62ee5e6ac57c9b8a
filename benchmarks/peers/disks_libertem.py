"""LiberTEM-blobfinder: its peaks, refined, pattern by pattern, as `_disks` asks for it."""

import numpy as np
from _disks import answer
from libertem_blobfinder.common import correlation, patterns

TEMPLATES = {
    "RadialGradient": patterns.RadialGradient,
    "BackgroundSubtraction": patterns.BackgroundSubtraction,
    "RadialGradientBackgroundSubtraction": patterns.RadialGradientBackgroundSubtraction,
}
VARIANTS = {
    f"{name}, upsample {upsample}": (name, upsample)
    for name in TEMPLATES
    for upsample in (False, True)
}


def find(counts, image, radius, center, variant):
    """Return y, x and elevation of every peak of a pattern."""
    del image, center
    name, upsample = VARIANTS[variant]
    template = TEMPLATES[name](radius=radius)
    peaks = correlation.get_peaks(counts, template, 384)
    room = np.minimum(peaks, np.array(counts.shape) - 1 - peaks).min(axis=1)
    peaks = peaks[room >= radius]
    _, refined, _, elevation = correlation.process_frames_fast(
        template, counts[None], peaks, upsample=upsample
    )
    return refined[0, :, 0], refined[0, :, 1], elevation[0]


answer(find, list(VARIANTS))

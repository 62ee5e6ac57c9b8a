"""How artefacts are drawn for training: wide enough for any microscope."""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from fcunet_dask._recipes import check_types
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.detector import Distortion
from fcunet_dask.simulate.artefacts import Artefacts, Camera

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactRecipe:
    """Ranges that `draw_artefacts` draws from; (lowest, highest), or a share.

    Parameters
    ----------
    dose, probe_dose : (float, float)
        Log-uniform, electrons; the second is times the first.
    loss, loss_width, loss_cut : (float, float)
        Inelastic share; q_E log-uniform and q_c uniform, 1/Å.
    thermal, thermal_width : (float, float)
        Share of the absorbed intensity, and σ, 1/Å.
    ellipse, max_ellipse, scale, barrel : float
        σ of the half-normal ε and its cap; largest |δ|; largest |k|.
    shift_px : float
        Largest descan in y and x, px.
    amorphous : float
        Share of samples with a layer; its weight is up to 0.2.
    stopped : float
        Share of samples with a beam stop.
    two_grains : float
        Share of samples with a second grain (if one is given).
    soft : float
        Share of samples with blurred disks, ``softness`` radii.
    softness : (float, float)
        σ of that blur, radii of the disks.
    scintillator : float
        Share of cameras that integrate (gain, dark, tails); the others count.
    spread_noise : float
        Share of the integrating cameras whose noise is spread as their light; an
        electron then gives ``gain`` counts, log-uniform.
    sigma : (float, float)
        Gaussian point spread, px.
    tail : (float, float)
        Share of the exponential tail of cameras that integrate.
    bad : (float, float)
        Share of hot, and of dead pixels, log-uniform.
    cameras : int
        How many different cameras there are.
    """

    dose: Range = (1e2, 1e6)
    probe_dose: Range = (10.0, 1000.0)
    loss: Range = (0.02, 0.45)
    loss_width: Range = (0.001, 0.1)
    loss_cut: Range = (0.5, 1.5)
    thermal: Range = (0.0, 1.0)
    thermal_width: Range = (0.5, 1.5)
    ellipse: float = 0.01
    max_ellipse: float = 0.03
    scale: float = 0.02
    barrel: float = 0.01
    shift_px: float = 6.0
    amorphous: float = 0.3
    stopped: float = 0.1
    two_grains: float = 0.1
    soft: float = 0.0
    softness: Range = (0.3, 1.0)
    scintillator: float = 0.5
    spread_noise: float = 0.0
    gain: Range = (2.0, 20.0)
    sigma: Range = (0.3, 1.0)
    tail: Range = (0.0, 0.3)
    bad: Range = (1e-5, 1e-3)
    cameras: int = 1000

    def __post_init__(self) -> None:
        check_types(self, ParameterError)
        for item in fields(self):
            value = getattr(self, item.name)
            pair = value if isinstance(item.default, tuple) else (0.0, value)
            if not (len(pair) == 2 and 0 <= pair[0] <= pair[1]):
                msg = f"{item.name} must be (lowest, highest), not negative: {value!r}"
                raise ParameterError(msg)
            if item.name in _LOGARITHMIC and not pair[0] > 0 and pair != _NONE:
                msg = f"{item.name} is drawn log-uniformly and must be positive: {value!r}"
                raise ParameterError(msg)
            if item.name in _SHARES and pair[1] > 1:
                msg = f"{item.name} is a share and must lie in 0 … 1, got {value!r}"
                raise ParameterError(msg)
        if self.cameras < 1:
            msg = f"cameras must be 1 or more, got {self.cameras}"
            raise ParameterError(msg)


_NONE: Final = (0.0, 0.0)
_LOGARITHMIC: Final = {"dose", "probe_dose", "loss_width", "gain", "bad"}
_SHARES: Final = {
    "loss", "thermal", "amorphous", "stopped", "two_grains", "soft", "scintillator",
    "spread_noise", "tail", "bad",
}  # fmt: skip


CARBON, SILICA = (0.48, 0.08, 1.0), (0.24, 0.05, 1.0)
SECOND_CARBON = (0.85, 0.11, 0.5)


def draw_artefacts(
    recipe: ArtefactRecipe,
    rng: np.random.Generator,
    *,
    size: int,
    radius: float,
    two: bool = False,
) -> Artefacts:
    """Draw what happens to one pattern.

    Parameters
    ----------
    recipe : ArtefactRecipe
        Ranges and shares.
    rng : numpy.random.Generator
        Where the draws come from.
    size : int
        Side of the detector, px.
    radius : float
        Of the disks, px: beam stops cover the direct beam.
    two : bool
        Whether a second grain is at hand.

    Returns
    -------
    Artefacts
    """
    dose = _log_uniform(rng, *recipe.dose)
    stopped = rng.random() < recipe.stopped
    amorphous = rng.random() < recipe.amorphous
    grains = two and rng.random() < recipe.two_grains
    soft = recipe.soft and rng.random() < recipe.soft
    layer = ((SILICA,), (CARBON, SECOND_CARBON))[rng.integers(2)]
    return Artefacts(
        dose=dose,
        probe_dose=dose * _log_uniform(rng, *recipe.probe_dose),
        distortion=_draw_distortion(recipe, rng, size),
        loss=rng.uniform(*recipe.loss),
        loss_width=_log_uniform(rng, *recipe.loss_width),
        loss_cut=rng.uniform(*recipe.loss_cut),
        thermal=rng.uniform(*recipe.thermal),
        thermal_width=rng.uniform(*recipe.thermal_width),
        amorphous=float(amorphous * rng.uniform(0, 0.2)),
        rings=layer,
        stop_width=float(stopped * rng.uniform(0.03, 0.08) * size),
        stop_angle=rng.uniform(0, 2 * np.pi),
        stop_radius=float(stopped * radius * rng.uniform(1.2, 2.0)),
        stop_transmission=rng.uniform(0, 0.05),
        second_share=float(grains * rng.uniform(0.15, 0.5)),
        soft=rng.uniform(*recipe.softness) * radius if soft else 0.0,
        camera=draw_camera(recipe, int(rng.integers(recipe.cameras))),
    )


def _draw_distortion(
    recipe: ArtefactRecipe, rng: np.random.Generator, size: int
) -> Distortion:
    shift = rng.uniform(-1, 1, 2) * recipe.shift_px / (size / 2)
    ellipse = abs(rng.normal()) * recipe.ellipse
    return Distortion(
        ellipse=min(ellipse, recipe.max_ellipse),
        angle=rng.uniform(0, np.pi),
        scale=rng.uniform(-1, 1) * recipe.scale,
        barrel=rng.uniform(-1, 1) * recipe.barrel,
        shift=(float(shift[0]), float(shift[1])),
    )


def draw_camera(recipe: ArtefactRecipe, seed: int) -> Camera:
    """Draw camera number `seed`: always the same for the same recipe.

    Parameters
    ----------
    recipe : ArtefactRecipe
        Ranges and shares.
    seed : int
        Which.

    Returns
    -------
    Camera
    """
    rng = np.random.default_rng([seed, 78])
    light = rng.random() < recipe.scintillator
    camera = Camera(
        seed=seed,
        gain_spread=float(light * rng.uniform(0.01, 0.05)),
        offset=float(light * rng.uniform(0, 50)),
        read_noise=float(light * rng.uniform(0, 5)),
        hot=_log_uniform(rng, *recipe.bad),
        dead=_log_uniform(rng, *recipe.bad),
        bits=int(rng.choice([12, 14, 16])),
        sigma=rng.uniform(*recipe.sigma),
        tail=float(light * rng.uniform(*recipe.tail)),
        reach=rng.uniform(2, 10),
    )
    if light and rng.random() < recipe.spread_noise:
        return replace(camera, spread=True, gain=_log_uniform(rng, *recipe.gain))
    return camera


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random()) if low else float(low)

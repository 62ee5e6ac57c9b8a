"""Pictures of docs/simulation.md.

python benchmarks/simulate_pictures.py library.zarr docs/images [abtem.npz]
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

mpl.use("Agg")
import matplotlib.pyplot as plt
from fcunet_dask.kernels.detector import Distortion
from fcunet_dask.simulate.artefacts import (
    Artefacts,
    Camera,
    observe,
)
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.evaluation import SETS, multilayer_scan
from fcunet_dask.simulate.labels import structure_factor_image
from fcunet_dask.simulate.library import clean_pattern, open_library
from fcunet_dask.simulate.polycrystal import PolycrystalRecipe, simulate_polycrystal
from fcunet_dask.simulate.scans import simulate_dynamical_scan


def show(ax, image, title, *, cmap="inferno", power=0.3, half=100):
    """Draw the middle of an image, its root taken."""
    n = image.shape[-1] // 2
    cut = image[n - half : n + half, n - half : n + half]
    ax.imshow(np.maximum(cut, 0) ** power, cmap=cmap, interpolation="nearest")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def save(fig, path):
    """Save with 96 colours: a third of the bytes."""
    fig.savefig(path, dpi=75)
    Image.open(path).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def library_picture(data, out):
    """Draw patterns of the library through thickness, with their targets."""
    names = data.attrs["provenance"]["crystals"]
    fig, axes = plt.subplots(5, 6, figsize=(9, 8))
    rng = np.random.default_rng(3)
    chosen = rng.permutation(data.sizes["specimen"])[:5]
    for row, specimen in zip(axes, sorted(chosen), strict=True):
        one = data.isel(specimen=int(specimen), probe=0)
        depth = one["thickness_angstrom"].to_numpy() / 10
        crystal = names[int(one["parameter"].sel(quantity="crystal"))]
        kv = float(one["parameter"].sel(quantity="voltage"))
        for ax, t in zip(row, (0, 4, 9, 16, 24), strict=False):
            clean = clean_pattern(data, int(specimen), 0, t)
            show(ax, clean.pattern, f"{depth[t]:.0f} nm", half=85)
        label = structure_factor_image(
            clean.q, clean.strength, clean.pattern.shape, clean.q_step, sigma=1.0
        )
        show(row[-1], label, "|V_g| target", cmap="viridis", power=0.5, half=85)
        row[0].set_title(f"{crystal[-22:]} {kv:.0f} kV, {depth[0]:.0f} nm", fontsize=6)
    fig.tight_layout(pad=0.4)
    save(fig, out / "simulation_library.png")


def artefact_cases():
    """Name each artefact and how strong it is drawn here."""
    bend = Distortion(ellipse=0.03, angle=0.6, scale=0.02)
    rings = ((0.48, 0.08, 1.0), (0.85, 0.11, 0.5))
    light = Camera(gain_spread=0.05, offset=30.0, read_noise=4.0, seed=2)
    return {
        "clean": Artefacts(),
        "dose 10⁵ e": Artefacts(dose=1e5),
        "dose 10³ e": Artefacts(dose=1e3),
        "inelastic, 40 %": Artefacts(loss=0.4, loss_width=0.05, loss_cut=1.2),
        "thermal diffuse": Artefacts(thermal=1.0, thermal_width=0.7),
        "ellipse 3 %": Artefacts(distortion=bend),
        "descan 12, −8 px": Artefacts(distortion=Distortion(shift=(12 / 128, -8 / 128))),
        "point spread": Artefacts(camera=Camera(sigma=1.0, tail=0.3, reach=6.0)),
        "beam stop": Artefacts(stop_radius=10.0, stop_width=14.0, stop_angle=2.0,
                               stop_transmission=0.01),
        "hot and dead pixels": Artefacts(dose=1e5, camera=Camera(hot=2e-3, dead=2e-3)),
        "gain, dark, read noise": Artefacts(dose=1e5, camera=light),
        "amorphous rings": Artefacts(amorphous=0.2, rings=rings),
        "second grain": Artefacts(second_share=0.4),
    }  # fmt: skip


def artefact_picture(data, out):
    """Draw every artefact on one pattern, with its truth, and the kinds of probe."""
    parameter = data["parameter"]
    radius = (
        parameter.sel(quantity="semiangle") / parameter.sel(quantity="voltage")
    ).to_numpy()
    rings = parameter.sel(quantity="rings").to_numpy()
    defocus = np.abs(parameter.sel(quantity="defocus").to_numpy())
    plain = np.where((rings == 0) & (defocus == 0), -np.abs(radius - 0.03), -9)
    specimen, probe = np.unravel_index(plain.argmax(), plain.shape)
    other = (specimen + 7) % data.sizes["specimen"]
    clean = clean_pattern(data, int(specimen), int(probe), 9)
    second = clean_pattern(data, int(other), 0, 9)
    fig, axes = plt.subplots(4, 4, figsize=(9, 9.4))
    flat = axes.ravel()
    for ax, (name, artefacts) in zip(flat, artefact_cases().items(), strict=False):
        out_ = observe(clean, artefacts, np.random.default_rng(0), second)
        top = out_.strength[1:].max()
        seen = out_.q[out_.strength > 0.15 * top] / clean.q_step + 90
        show(ax, out_.pattern / out_.pattern.sum(), name, half=90)
        ax.plot(seen[:, 1], seen[:, 0], "c+", ms=3, mew=0.4)
        ax.set_xlim(0, 180)
        ax.set_ylim(180, 0)
    kinds = {
        "patterned probe": np.unravel_index(rings.argmax(), rings.shape),
        "defocused probe": np.unravel_index(
            np.where(rings == 0, defocus * radius, 0).argmax(), defocus.shape
        ),
    }
    for ax, (name, place) in zip(flat[13:], kinds.items(), strict=False):
        show(
            ax,
            clean_pattern(data, int(place[0]), int(place[1]), 5).pattern,
            name,
            half=90,
        )
    place = kinds["patterned probe"]
    show(flat[15], clean_pattern(data, int(place[0]), int(place[1]), 5).probe,
         "its vacuum probe", half=30)  # fmt: skip
    fig.tight_layout(pad=0.4)
    save(fig, out / "simulation_artefacts.png")


def abtem_picture(path, out):
    """Draw this package above abTEM, the same atoms."""
    kept = np.load(path)
    fig, axes = plt.subplots(len(kept.files), 6, figsize=(9, 1.75 * len(kept.files)))
    for row, name in zip(axes, kept.files, strict=True):
        for i, depth in enumerate((10, 30, 50)):
            for j, code in enumerate(("ours", "abTEM")):
                show(row[2 * i + j], kept[name][j, i], f"{code} {depth} nm", half=75)
        row[0].set_title(f"{name[:18]}, {name.split()[-1]}²: ours", fontsize=6)
    fig.tight_layout(pad=0.3)
    save(fig, out / "simulation_abtem.png")


def scan_picture(out):
    """Draw the strain of the multilayers, patterns of each, and of a polycrystal."""
    fig, axes = plt.subplots(2, 4, figsize=(9, 4.6))
    for i, kind in enumerate(SETS):
        recipe = multilayer_scan(kind, tile=(1, 1))
        scan = simulate_dynamical_scan(recipe)
        x = scan["scan_x"].to_numpy()
        axes[0, 0].plot(x, 100 * scan["true_strain_xx"].to_numpy()[0], label=kind)
        pattern = scan["pattern"].isel(scan_y=0, scan_x=46).to_numpy()
        show(axes[0, i + 1], pattern, f"{kind}: {recipe.thickness[0]} nm", half=75)
    axes[0, 0].set_title("true ε_xx, % against nm", fontsize=8)
    axes[0, 0].tick_params(labelsize=6)
    axes[0, 0].legend(fontsize=6)
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    gold = Crystal(name="Au", cell=np.eye(3) * 4.078, positions=base, numbers=[79] * 4)
    film = simulate_polycrystal(
        PolycrystalRecipe(crystal=gold, scan=(1, 4), scan_step=4.0, tile=(1, 1))
    )
    for i, ax in enumerate(axes[1]):
        one = film.isel(scan_y=0, scan_x=i)
        show(ax, one["pattern"].to_numpy(), "two grains of gold", half=90)
        q = one["true_bragg_q"].to_numpy() / float(film["q_x"][1] - film["q_x"][0]) + 90
        seen = one["true_bragg_strength"].to_numpy() > 1
        ax.plot(q[seen, 1], q[seen, 0], "c+", ms=3, mew=0.4)
        ax.set_xlim(0, 180)
        ax.set_ylim(180, 0)
    fig.tight_layout(pad=0.4)
    save(fig, out / "simulation_scans.png")


def main(library, out, abtem=None):
    """Draw them all."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    data = open_library(library, partial=True)
    library_picture(data, out)
    artefact_picture(data, out)
    scan_picture(out)
    if abtem:
        abtem_picture(abtem, out)


if __name__ == "__main__":
    main(*sys.argv[1:])

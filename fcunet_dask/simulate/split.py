"""Which crystals may be learnt from, and which only judge."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

import numpy as np

from fcunet_dask.simulate.crystals import SYSTEMS, Crystal, load_crystals

SPLITS: Final = ("train", "validation", "test")
SHARES: Final = (0.8, 0.1, 0.1)


def family_keys(crystal: Crystal) -> tuple[str, str]:
    """Two names that siblings share: reduced formula, and kind of structure.

    The kind is (space group, anonymous composition, atoms in the cell): it does not
    depend on how a source spells its prototypes, and is coarser than they are.

    Examples
    --------
    >>> family_keys(load_crystals()[0])
    ('FeNaO8S2', '2:1-1-2-8:12')
    """
    _, counts = np.unique(crystal.numbers, return_counts=True)
    ratio = "-".join(str(n) for n in sorted(counts // np.gcd.reduce(counts)))
    return crystal.formula, f"{crystal.spacegroup}:{ratio}:{len(crystal.numbers)}"


def families(crystals: Sequence[Crystal]) -> list[int]:
    """Family of each crystal: those connected by a shared key, however indirectly.

    Parameters
    ----------
    crystals : sequence of Crystal
        Any.

    Returns
    -------
    list of int
        The index of the first crystal of the family, one for each crystal.
    """
    parent = list(range(len(crystals)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, crystal in enumerate(crystals):
        for key in family_keys(crystal):
            a, b = root(i), root(first.setdefault(key, i))
            parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(crystals))]


def split_crystals(crystals: Sequence[Crystal] | None = None) -> list[str]:
    """Split of each crystal: ``train``, ``validation`` or ``test``.

    A family goes as a whole, by the SHA-256 of its first formula: no test crystal has
    a sibling (same formula, or same kind of structure) in training. The split of the
    shipped table depends on nothing but the table. A family of users' crystals goes
    where its shipped siblings are, to the most withheld of them if they differ.

    Parameters
    ----------
    crystals : sequence of Crystal or None
        The shipped table where None.

    Returns
    -------
    list of str
        One for each of `crystals`.
    """
    shipped = load_crystals()
    known = _hashed(shipped)
    places = dict(zip(map(id, shipped), known, strict=True))
    own = [c for c in crystals or () if id(c) not in places]
    withheld: dict[str, int] = {}
    for crystal, split in zip(shipped, known, strict=True):
        for key in family_keys(crystal):
            withheld[key] = max(withheld.get(key, 0), SPLITS.index(split))
    chosen: dict[int, int] = {}
    for crystal, head in zip(own, families(own), strict=True):
        for key in family_keys(crystal):
            if key in withheld:
                chosen[head] = max(chosen.get(head, 0), withheld[key])
    for crystal, head, split in zip(own, families(own), _hashed(own), strict=True):
        places[id(crystal)] = SPLITS[chosen[head]] if head in chosen else split
    return [places[id(c)] for c in (shipped if crystals is None else crystals)]


def _hashed(crystals: Sequence[Crystal]) -> list[str]:
    """Split of each crystal by the first formula of its family."""
    edges = np.cumsum(SHARES)[:-1]
    names = []
    for head in families(crystals):
        digest = sha256(crystals[head].formula.encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        names.append(SPLITS[int(np.searchsorted(edges, draw, side="right"))])
    return names


def summarize(crystals: Sequence[Crystal] | None = None) -> Mapping[str, object]:
    """Count a set of crystals, for tables and for provenance.

    Parameters
    ----------
    crystals : sequence of Crystal or None
        The shipped table where None.

    Returns
    -------
    mapping
        ``crystals``, ``spacegroups``, ``formulas``, ``families``; ``system`` →
        ``split`` → count; ``source`` → count; ``elements``: symbol → crystals with
        it; ``volume_per_atom``: percentiles 0, 5, 25, 50, 75, 95, 100, Å³.
    """
    pool = load_crystals() if crystals is None else crystals
    places = split_crystals(crystals)
    systems = {
        name: dict(
            Counter(s for c, s in zip(pool, places, strict=True) if c.system == name)
        )
        for name in SYSTEMS
    }
    volumes = [c.volume_per_atom for c in pool]
    return {
        "crystals": len(pool),
        "spacegroups": len({c.spacegroup for c in pool if c.spacegroup}),
        "formulas": len({c.formula for c in pool}),
        "families": len(set(families(pool))),
        "system": systems,
        "source": dict(Counter(c.source for c in pool)),
        "elements": dict(sorted(Counter(z for c in pool for z in c.elements).items())),
        "volume_per_atom": np.percentile(volumes, [0, 5, 25, 50, 75, 95, 100]).tolist(),
    }

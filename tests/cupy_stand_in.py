"""CuPy's rules on NumPy's arithmetic: what mixes host and device fails as it would there.

Arrays on the feigned device are no NumPy arrays: CuPy refuses to turn into them silently,
to compute with them, and lacks functions that NumPy has. What passes here may still fail
on a GPU, but not for arrays that are in the wrong place or functions that do not exist
(`NAMES` were looked up in CuPy 14.0).
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.fft
import scipy.special

NAMES = """
    abs arange argsort array asarray ascontiguousarray bincount clip concatenate cos
    cumsum divide einsum empty exp eye floor full hypot isfinite isnan lexsort matmul
    maximum median minimum multiply nan_to_num nonzero ones pad partition rint roll
    searchsorted sin sort sqrt stack swapaxes take take_along_axis tri unravel_index
    where zeros zeros_like
"""
FROM_HOST = frozenset({"array", "asarray", "ascontiguousarray"})
CONSTANTS = ("inf", "nan", "pi", "uint8", "int64", "float32", "float64", "complex64")


def _bare(value, *, host=False):
    """Take device arrays out of their wrapping; refuse those of the host."""
    if isinstance(value, Array):
        return value.bare
    if isinstance(value, np.ndarray) and value.ndim and not host:
        msg = f"Unsupported type {type(value)}: an array of the host on the device"
        raise TypeError(msg)
    if isinstance(value, list | tuple):
        return type(value)(_bare(v, host=host) for v in value)
    return value


def _wrapped(value):
    if isinstance(value, np.ndarray | np.generic):
        return Array(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(_wrapped(v) for v in value)
    return value


def _on_device(function, *, host=False):
    def call(*args, **kwargs):
        args = [_bare(a, host=host) for a in args]
        kwargs = {k: _bare(v, host=host) for k, v in kwargs.items()}
        return _wrapped(function(*args, **kwargs))

    return call


class Array:
    """An array of the feigned device."""

    __hash__ = None

    def __init__(self, bare):
        self.bare = bare

    def __array__(self, *_, **__):
        msg = "Implicit conversion to a NumPy array is not allowed: use .get()"
        raise TypeError(msg)

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if method != "__call__":
            return NotImplemented
        return _on_device(ufunc)(*args, **kwargs)

    def __dlpack__(self, **kwargs):
        return self.bare.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.bare.__dlpack_device__()

    def get(self):
        """Copy to the host."""
        return self.bare.copy()

    def __getattr__(self, name):
        value = getattr(self.bare, name)
        if callable(value) and name != "dtype":
            return value if name in {"tolist", "item"} else _on_device(value)
        return _wrapped(value) if isinstance(value, np.ndarray) else value

    def __getitem__(self, key):
        return _wrapped(self.bare[_bare(key)])

    def __setitem__(self, key, value):
        self.bare[_bare(key)] = _bare(value)

    def __len__(self):
        return len(self.bare)

    def __iter__(self):
        return (_wrapped(v) for v in self.bare)

    def __bool__(self):
        return bool(self.bare)

    def __int__(self):
        return int(self.bare)

    def __float__(self):
        return float(self.bare)


def _operator(name):
    def apply(self, *others):
        bare = [_bare(o) for o in others]
        result = getattr(self.bare, name)(*bare)
        if name.startswith("__i") and name != "__invert__":
            return self
        return _wrapped(result)

    return apply


BINARY = [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
]
for _op in BINARY:
    for _form in ("", "r", "i"):
        setattr(Array, f"__{_form}{_op}__", _operator(f"__{_form}{_op}__"))
for _op in ["lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert"]:
    setattr(Array, f"__{_op}__", _operator(f"__{_op}__"))


class StandIn(ModuleType):
    """The module: `NAMES` of NumPy, and those that were asked for."""

    def __init__(self, free=10**9, device=True):
        super().__init__("cupy")
        self.ndarray = Array
        self.asked = set()
        for name in CONSTANTS:
            setattr(self, name, getattr(np, name))
        self.linalg = SimpleNamespace(inv=_on_device(np.linalg.inv))
        cache = SimpleNamespace(clear=lambda: None)
        self.fft = SimpleNamespace(
            fftfreq=_on_device(np.fft.fftfreq),
            config=SimpleNamespace(get_plan_cache=lambda: cache),
        )
        self.promote_types = np.promote_types
        self.freed = 0
        self.device = device
        self.cuda = _cuda(free)

    def __getattr__(self, name):
        if name not in NAMES.split():
            msg = f"module 'cupy' has no attribute {name!r} that was looked up"
            raise AttributeError(msg)
        if not self.device:
            msg = "cudaErrorNoDevice: no CUDA-capable device is detected"
            raise CUDARuntimeError(msg)
        self.asked.add(name)
        return _on_device(getattr(np, name), host=name in FROM_HOST)

    def get_default_memory_pool(self):
        """Return what forgets arrays when asked."""

        def free_all_blocks():
            self.freed += 1

        return SimpleNamespace(free_all_blocks=free_all_blocks)


class _Stream:
    def __init__(self, **_):
        self.waited = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def synchronize(self):
        """Wait for nothing."""
        self.waited += 1


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where there is no driver."""


def _cuda(free):
    return SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 1),
        Device=lambda *_: SimpleNamespace(mem_info=(free, 2 * free)),
        Stream=_Stream,
        get_current_stream=_Stream,
    )


def install(monkeypatch, **options):
    """Put the stand-in where ``import cupy`` finds it."""
    cupy = StandIn(**options)
    modules = {
        "cupy": cupy,
        "cupyx": ModuleType("cupyx"),
        "cupyx.scipy": ModuleType("cupyx.scipy"),
    }
    fft = SimpleNamespace(
        **{
            n: _on_device(getattr(scipy.fft, n))
            for n in ("fft", "ifft", "irfft", "fft2", "ifft2", "rfft2", "irfft2")
        }
    )
    special = SimpleNamespace(
        **{n: _on_device(getattr(scipy.special, n)) for n in ("erfcx", "log_ndtr")}
    )
    modules["cupyx.scipy"].fft, modules["cupyx.scipy"].special = fft, special
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return cupy

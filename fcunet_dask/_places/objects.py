"""A prefix of an object store as a place."""

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from fcunet_dask._places.base import Stamp, in_order
from fcunet_dask.errors import MissingDependencyError, StoreError

_WILD: Final = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """A prefix of an object store: S3, or whatever obstore speaks to.

    Keys and secrets are those of the environment (``AWS_…``), of each worker its own.
    """

    url: str

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    def read(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return bytes(_obstore().get(_bucket(self.url), key).bytes())

    def write(self, key: str, data: bytes) -> None:
        """Put an object: stores show the whole of it or nothing."""
        _obstore().put(_bucket(self.url), key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object on the condition that there is none, and prove that it counts."""
        if not self._put_first(key, data):
            return False
        try:
            self._expect_conditions(f"{key}.{uuid.uuid4().hex}")
        except BaseException:
            self.delete(key)
            raise
        return True

    def _expect_conditions(self, key: str) -> None:
        """Refuse a store that creates `key` twice, as some S3 look-alikes do."""
        try:
            both = self._put_first(key, b"") and self._put_first(key, b"")
        finally:
            self.delete(key)
        if both:
            msg = (
                f"{self.url}: this object store overwrites what it was asked to "
                "create: two runs could write at once; use one that knows "
                "conditional writes (If-None-Match), or a local disk"
            )
            raise StoreError(msg)

    def _put_first(self, key: str, data: bytes) -> bool:
        module = _obstore()
        try:
            module.put(_bucket(self.url), key, data, mode="create")
        except module.exceptions.AlreadyExistsError:
            return False
        except module.exceptions.NotSupportedError as error:
            msg = f"{self.url}: this object store cannot create on condition ({error})"
            raise StoreError(msg) from error
        return True

    def swap(self, key: str, data: bytes, seen: Stamp) -> bool:
        """Put an object on the condition that it is what was seen."""
        module = _obstore()
        known = module.exceptions
        try:
            module.put(_bucket(self.url), key, data, mode={"e_tag": seen.version})
        except (known.PreconditionError, FileNotFoundError):
            return False
        return True

    def renew(self, key: str, data: bytes, seen: Stamp) -> None:
        """Put the object again, if it is still the same."""
        self.swap(key, data, seen)

    def stamp(self, key: str) -> Stamp | None:
        """Return entity tag and time of an object."""
        try:
            info = _obstore().head(_bucket(self.url), key)
        except FileNotFoundError:
            return None
        return Stamp(info["e_tag"], int(info["last_modified"].timestamp() * 1e9))

    def size(self, key: str) -> int:
        """Return the length of an object."""
        try:
            return int(_obstore().head(_bucket(self.url), key)["size"])
        except FileNotFoundError:
            return 0

    def delete(self, key: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            _obstore().delete(_bucket(self.url), key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the objects below a prefix."""
        for page in _obstore().list(_bucket(self.url), prefix or None):
            for item in page:
                yield str(item["path"])

    def empty(self) -> bool:
        """Whether there is no object below the prefix."""
        return next(self.keys(""), None) is None

    def children(self) -> set[str]:
        """Return the first parts of the keys, from a listing with a delimiter."""
        found = _obstore().list_with_delimiter(_bucket(self.url))
        return {str(name).rstrip("/") for name in found["common_prefixes"]}

    def clear(self, keys: Iterable[str] | None = None) -> None:
        """Delete objects, by default all."""
        for key in in_order(self.keys("") if keys is None else keys):
            self.delete(key)

    def drop_partial(self) -> None:
        """Nothing is left behind: an object is whole or is not."""

    def free_bytes(self) -> int | None:
        """Return None: object stores do not say."""
        return None

    def zarr(self, path: str = "") -> Any:
        """Return a Zarr store."""
        from zarr.storage import ObjectStore  # noqa: PLC0415 - exists with obstore only

        return ObjectStore(_bucket(f"{self.url}/{path}" if path else self.url))

    def below(self, path: str) -> "ObjectPlace":
        """Return a prefix in this one."""
        return ObjectPlace(f"{self.url}/{path}")


def matching_urls(pattern: str) -> list[str]:
    """Return the prefixes that a URL with wildcards behind its bucket stands for."""
    scheme, _, rest = pattern.rstrip("/").partition("://")
    bucket, *names = rest.split("/")
    wild = [_WILD.search(name) is not None for name in names]
    known = wild.index(True) if any(wild) else len(names)
    found = ["/".join([f"{scheme}://{bucket}", *names[:known]])]
    for name in names[known:]:
        found = [f"{url}/{child}" for url in found for child in _children(url, name)]
    return found


def _children(url: str, pattern: str) -> list[str]:
    """Return what is directly below; names that begin with a dot only where asked for."""
    return [
        name
        for name in ObjectPlace(url).children()
        if fnmatchcase(name, pattern) and name.startswith(".") == (pattern[:1] == ".")
    ]


def _obstore() -> Any:
    try:
        import obstore  # noqa: PLC0415 - optional
        import obstore.exceptions  # noqa: PLC0415
    except ImportError as error:
        msg = "URLs of object stores need obstore: pip install 'fcunet-dask[s3]'"
        raise MissingDependencyError(msg) from error
    return obstore


@lru_cache(64)
def _bucket(url: str) -> Any:
    _obstore()
    from obstore.store import from_url  # noqa: PLC0415 - optional

    return from_url(url)

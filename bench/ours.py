"""Our side: the public API, used as the documentation teaches it, plain dicts as documents."""

from __future__ import annotations

from typing import Any

import homeport as hp
from homeport import F

CITIES = hp.Collection("cities", indexes=["pop", ("country", "admin1"), "name"])


class Ours:
    """The city collection of one file."""

    def __init__(self, path: str, durability: str, cache_mb: int) -> None:
        self._db = hp.open(path, collections=[CITIES], durability=durability, cache_mb=cache_mb)
        self._cities = self._db[CITIES]
        # Bound methods kept by the caller, as the other side keeps its cursor.
        self.get = self._cities.get
        self.get_many = self._cities.get_many
        self.put = self._cities.put
        self.put_many = self._cities.put_many

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._cities.where(F.pop.between(*bounds)).all()

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._cities.where(F.country == area[0], F.admin1 == area[1]).all()

    def ordered(self, above: int) -> list[Any]:
        return self._cities.where(F.pop > above).order_by("pop").limit(50).all()

    def count(self, bounds: tuple[int, int]) -> int:
        return self._cities.where(F.pop.between(*bounds)).count()

    def close(self) -> None:
        self._db.close()

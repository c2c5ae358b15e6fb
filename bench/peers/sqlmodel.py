"""SQLModel on SQLAlchemy: a table model, a session for each piece of work, as its tutorial shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Index, event, func
from sqlalchemy import insert as bulk_insert
from sqlmodel import Field, Session, SQLModel, create_engine, select

from bench.peers.base import Document, Peer, batches
from bench.peers.sqlite_stdlib import NO_NOTICE, pragmas


class City(SQLModel, table=True):
    __table_args__ = (Index("cities_area", "country", "admin1"),)

    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    country: str
    admin1: str
    lat: float
    lng: float
    pop: int = Field(index=True)
    tags: list[str] = Field(sa_column=Column(JSON))
    capital: bool
    updated: str


class SqlModel(Peer):
    name = "sqlmodel"
    title = "SQLModel"
    package = "sqlmodel"
    durabilities = {"full": "WAL, synchronous=FULL", "relaxed": "WAL, synchronous=NORMAL"}
    unable = {"notify": NO_NOTICE, "text": "no full-text search of its own", "search_20": "no full-text search of its own"}
    how = {"get": "a session for each call; answers are model objects"}

    def __init__(self, folder: Path, durability: str) -> None:
        self._engine = create_engine(f"sqlite:///{folder / 'cities.db'}")
        statements = pragmas(durability)

        @event.listens_for(self._engine, "connect")
        def connected(connection: Any, _: object) -> None:
            for statement in statements:
                connection.execute(statement)

        SQLModel.metadata.create_all(self._engine)

    @classmethod
    def plain(cls, result: Any) -> Document:
        return result.model_dump()

    def get(self, key: str) -> Any:
        with Session(self._engine) as session:
            return session.get(City, key)

    def _all(self, statement: Any) -> list[Any]:
        with Session(self._engine) as session:
            return list(session.exec(statement).all())

    def get_many(self, keys: Sequence[str]) -> list[Any]:
        found = {city.id: city for city in self._all(select(City).where(City.id.in_(keys)))}  # type: ignore[attr-defined]
        return [found.get(key) for key in keys]

    def equal(self, name: str) -> list[Any]:
        return self._all(select(City).where(City.name == name))

    def between(self, bounds: tuple[int, int]) -> list[Any]:
        return self._all(select(City).where(City.pop >= bounds[0], City.pop <= bounds[1]))

    def compound(self, area: tuple[str, str]) -> list[Any]:
        return self._all(select(City).where(City.country == area[0], City.admin1 == area[1]))

    def ordered(self, above: int) -> list[Any]:
        return self._all(select(City).where(City.pop > above).order_by(City.pop).limit(50))  # type: ignore[arg-type]

    def count(self, bounds: tuple[int, int]) -> int:
        statement = select(func.count()).select_from(City)
        with Session(self._engine) as session:
            return session.exec(
                statement.where(City.pop >= bounds[0], City.pop <= bounds[1])
            ).one()

    def iterate(self, _: object) -> int:
        with Session(self._engine) as session:
            found = session.exec(select(City).execution_options(yield_per=1000))
            return sum(city.pop for city in found)

    def put(self, city: Document) -> None:
        with Session(self._engine) as session:
            session.add(City(**city))
            session.commit()

    def put_many(self, cities: Sequence[Document]) -> None:
        with Session(self._engine) as session:
            session.add_all([City(**city) for city in cities])
            session.commit()

    def patch(self, change: tuple[str, int]) -> None:
        with Session(self._engine) as session:
            city = session.get(City, change[0])
            assert city is not None
            city.pop = change[1]
            session.add(city)
            session.commit()

    def delete(self, key: str) -> None:
        with Session(self._engine) as session:
            session.delete(session.get(City, key))
            session.commit()

    def load(self, documents: Iterable[Document]) -> None:
        """SQLAlchemy's bulk insert, which its guide recommends for many rows."""
        with Session(self._engine) as session:
            for batch in batches(documents):
                session.execute(bulk_insert(City), batch)
            session.commit()

    def close(self) -> None:
        self._engine.dispose()

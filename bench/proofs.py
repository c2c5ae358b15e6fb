"""Is an answer right? Asked of every side before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.corpus import Notes, Sample, answer_of
from bench.operations import TEXT, Operation
from bench.peers.base import Peer


class WrongAnswer(Exception):
    """A ratio between different answers means nothing."""


class Proofs:
    """Answers of the peers against the documents of a sample. ``run`` awaits what has to be."""

    def __init__(self, sample: Sample, run: Callable[[Any], Any]) -> None:
        self._sample = sample
        self._run = run

    def read(
        self, operation: Operation, peer: Peer, call: Callable[[Any], Any], given: Any
    ) -> None:
        self.same(peer, operation, call(given), getattr(self._sample, operation.method)(given))

    def same(self, peer: Peer, operation: Operation, found: Any, right: Any) -> None:
        if answer_of(peer.plain, operation.name, found) != answer_of(
            lambda row: row, operation.name, right
        ):
            raise WrongAnswer(f"{peer.name}, {operation.name}")

    def write(
        self, operation: Operation, peer: Peer, call: Callable[[Any], Any], given: Any
    ) -> None:
        """The write is there afterwards, and the index knows it."""
        if operation.name == "patch":
            # A document of its own: the inputs are shared by all sides.
            (document,) = self._sample.new(1)
            self._run(peer.put(document))
            call((document["id"], given[1]))
            self.stored(peer, {**document, "pop": given[1]})
            if "range_1000" not in peer.unable:
                pop = given[1]
                found = [peer.plain(row)["id"] for row in self._run(peer.between((pop, pop)))]
                if document["id"] not in found:
                    raise WrongAnswer(f"{peer.name}, {operation.name}: the index is stale")
            return
        if operation.name == "delete":
            call(given)
            if self._run(peer.get(given)) is not None:
                raise WrongAnswer(f"{peer.name}, {operation.name}: it is still there")
            return
        fresh = self._sample.new(200) if operation.name == "bulk_put_200" else self._sample.new(1)
        answer = call(fresh if operation.name == "bulk_put_200" else fresh[0])
        self.stored(peer, fresh[-1])
        if operation.name == "notify" and peer.plain(answer) != fresh[0]:
            raise WrongAnswer(f"{peer.name}, {operation.name}")

    def stored(self, peer: Peer, document: dict[str, Any]) -> None:
        found = self._run(peer.get(document["id"]))
        if found is None or peer.plain(found) != document:
            raise WrongAnswer(f"{peer.name}: what was written is not what is read")

    def words(
        self,
        operation: Operation,
        peer: Peer,
        call: Callable[[Any], Any],
        given: str,
        notes: Notes,
    ) -> None:
        if operation is TEXT:
            return self.same(peer, operation, call(given), notes.text(given))
        # Ranks may differ from engine to engine; all the same they are notes with the word.
        found = [peer.plain(row)["text"].split() for row in call(given)]
        if len(found) != min(20, len(notes.text(given))) or not all(
            given in words for words in found
        ):
            raise WrongAnswer(f"{peer.name}, {operation.name}")

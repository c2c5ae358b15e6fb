"""Tokens: JWTs whose algorithm, audience and issuer are pinned by the server."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from homeport.errors import NeedsAuth, ServerError

from .rules import Claims

AUDIENCE = "homeport"
DEV_ISSUER = "homeport-dev"
DEV_TTL_S = 365 * 24 * 3600.0


class Authenticator:
    """Verifies bearer tokens and, where it holds a secret, makes them.

    Args:
        key: a shared secret (HS256), or a public key as PEM (RS256, ES256 or EdDSA by its kind).
        audience: must be in ``aud``.
        issuer: must be ``iss``; None = not looked at.
        leeway_s: tolerance for clocks on ``exp``.

    Raises:
        ServerError: the key cannot be read, or the secret is shorter than 32 bytes.
    """

    def __init__(
        self,
        key: bytes,
        *,
        audience: str = AUDIENCE,
        issuer: str | None = None,
        leeway_s: float = 5.0,
    ) -> None:
        self._key, self._algorithm = _read_key(key)
        self.audience = audience
        self.issuer = issuer
        self._leeway_s = leeway_s

    def verify(self, token: str) -> Claims:
        """Who the token speaks for.

        Raises:
            NeedsAuth: missing, malformed, expired, or made by or for somebody else.
        """
        if not token:
            raise NeedsAuth("No token was sent.")
        try:
            claims = jwt.decode(token, self._key, algorithms=[self._algorithm]).claims
        except (JoseError, ValueError, TypeError) as error:
            raise NeedsAuth("The token is not one of this server.") from error
        audience = claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise NeedsAuth("The token is for another audience.")
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise NeedsAuth("The token is of another issuer.")
        expires, starts = claims.get("exp"), claims.get("nbf", 0)
        now = time.time()
        if not _is_time(expires) or not _is_time(starts):
            raise NeedsAuth("The token has no expiry.")
        if now > expires + self._leeway_s or now < starts - self._leeway_s:
            raise NeedsAuth("The token has expired, or is not valid yet.")
        subject, tenant = claims.get("sub"), claims.get("tenant")
        if not _is_name(subject) or not _is_name(tenant):
            raise NeedsAuth("The token names no subject or no tenant.")
        return Claims(subject, tenant, float(expires), claims)

    def mint(self, subject: str, tenant: str, ttl_s: float) -> str:
        """A token for ``subject`` of ``tenant``, valid for ``ttl_s`` seconds.

        Raises:
            ServerError: this server holds a public key only.
        """
        if self._algorithm != "HS256":
            raise ServerError(
                "This node holds a public key and cannot make tokens.",
                action="Make tokens where the private key is.",
            )
        now = int(time.time())
        claims = {
            "sub": subject,
            "tenant": tenant,
            "aud": self.audience,
            "iat": now,
            "exp": int(now + ttl_s),
        }
        if self.issuer is not None:
            claims["iss"] = self.issuer
        return jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, self._key)


def development(data_dir: Path) -> Authenticator:
    """The authenticator of a development node; its key is kept in ``data_dir``."""
    path = data_dir / "dev.key"
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(secrets.token_urlsafe(48).encode())
    return Authenticator(path.read_bytes(), issuer=DEV_ISSUER)


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= 255 and "\0" not in value


def _read_key(key: bytes) -> tuple[Key, str]:
    key = key.strip()
    if not key.startswith(b"-----BEGIN"):
        if len(key) < 32:
            raise ServerError("The secret for tokens is shorter than 32 bytes.")
        return OctKey.import_key(key), "HS256"
    kinds: tuple[tuple[type[Key], str], ...] = (
        (RSAKey, "RS256"),
        (ECKey, "ES256"),
        (OKPKey, "EdDSA"),
    )
    for kind, algorithm in kinds:
        with contextlib.suppress(Exception):  # each kind raises errors of its own for the others
            return kind.import_key(key), algorithm
    raise ServerError("The public key for tokens cannot be read: PEM of RSA, EC or Ed25519.")

"""Access tokens: JWT, HS256 only.  Pure but for the clock that callers may pass."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import jwt

from claude_daemon.errors import TokenExpiredError, TokenInvalidError
from claude_daemon.protocol.model import SCOPES, DeviceId, Scope, UserId

ALGORITHM = "HS256"
AUDIENCE = "claude-daemon"
LEEWAY_S = 0
LEGACY_SCOPES: frozenset[Scope] = frozenset({"view", "chat", "files", "terminal"})
"""What a token of the older server may do, and a program's token when it names no scopes."""
LONGEST_TOKEN = 8_192


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    user_id: UserId
    device_id: DeviceId
    scopes: frozenset[Scope]
    expires_at: float
    """Unix seconds."""
    legacy: bool = False


class Tokens:
    """Makes and reads the tokens of one installation."""

    def __init__(self, secret: str, *, issuer: str, legacy_secrets: Sequence[str] = ()) -> None:
        self._secret = secret
        self._issuer = issuer
        self._legacy_secrets = [each for each in legacy_secrets if each]

    def make(
        self,
        *,
        user_id: UserId,
        device_id: DeviceId,
        scopes: frozenset[Scope],
        ttl_s: int,
        now: float | None = None,
    ) -> tuple[str, float]:
        """A signed access token and the Unix second at which it expires."""
        issued = int(time.time() if now is None else now)
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": user_id,
            "deviceId": device_id,
            "scopes": sorted(scopes),
            "typ": "access",
            "jti": str(uuid.uuid4()),
            "iat": issued,
            "exp": issued + ttl_s,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM), float(claims["exp"])  # type: ignore[arg-type]  # exp is an int

    def read(self, token: str) -> Claims:
        """Check a token, which may carry a `Bearer ` prefix.

        Raises `TokenExpiredError` for one of ours that is over, `TokenInvalidError` for anything else.
        """
        token = token.removeprefix("Bearer ").strip()
        if not token or len(token) > LONGEST_TOKEN:
            raise TokenInvalidError
        try:
            return self._own(token)
        except TokenExpiredError:
            raise
        except TokenInvalidError:
            for secret in self._legacy_secrets:
                if claims := _legacy(token, secret):
                    return claims
            raise

    def _own(self, token: str) -> Claims:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub", "jti"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpiredError from None
        except jwt.PyJWTError:
            raise TokenInvalidError from None
        scopes = claims.get("scopes")
        if (
            claims.get("typ") != "access"
            or not isinstance(claims.get("deviceId"), str)
            or not isinstance(scopes, list)
        ):
            raise TokenInvalidError
        return Claims(
            UserId(claims["sub"]),
            DeviceId(claims["deviceId"]),
            frozenset(cast("Scope", scope) for scope in scopes if scope in SCOPES),
            float(claims["exp"]),
        )


def _legacy(token: str, secret: str) -> Claims | None:
    """A token of the older server: `userId` with `exp`, signed with JWT_SECRET, naming nothing of ours."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=[ALGORITHM], options={"require": ["exp"], "verify_aud": False}
        )
    except jwt.ExpiredSignatureError:
        raise TokenExpiredError from None
    except jwt.PyJWTError:
        return None
    user_id = claims.get("userId")
    if not isinstance(user_id, str) or not 0 < len(user_id) <= 128 or not user_id.isprintable():
        return None
    if {"typ", "scopes", "deviceId", "aud", "iss"} & claims.keys():
        return None
    return Claims(
        UserId(user_id), DeviceId(f"legacy:{user_id}"), LEGACY_SCOPES, float(claims["exp"]), legacy=True
    )

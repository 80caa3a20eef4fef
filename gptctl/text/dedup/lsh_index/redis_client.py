"""Connections to a Redis server, and its errors without the server's password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gptctl.core.errors import ConflictError, MachineError, UsageError
from gptctl.core.extras import require

# A server is given up after two attempts of this long. A batch of documents takes it 0.5 s.
CONNECT_SECONDS, ANSWER_SECONDS = 5, 20
HINT = "check redis=URL and that the server runs: redis-cli ping; then run the same command again, it resumes"


@dataclass(frozen=True)
class RedisClient:
    """A pool of connections to one server. Errors name the server as `address`."""

    pool: Any
    errors: tuple[type[Exception], ...]
    address: str
    password: str

    @classmethod
    def connect(cls, url: str) -> RedisClient:
        """Return a client for a URL. No connection is opened yet.

        Raises MachineError (4) if the package `redis` is missing, UsageError (2) if this is not the URL of a server.
        """
        redis: Any = require("redis")
        from redis.backoff import ConstantBackoff
        from redis.retry import Retry

        try:
            pool = redis.ConnectionPool.from_url(
                url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(ConstantBackoff(1), 1),
            )
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError):
            # The original error would show parts of a password that contains a slash.
            message = "the value of redis is not the URL of a Redis server"
            raise UsageError(message, "write it like redis://HOST:6379/0 or unix:///PATH") from None
        pool.connection_kwargs["decode_responses"] = False
        known = pool.connection_kwargs
        host = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        errors = (redis.RedisError, OSError)
        return cls(pool, errors, f"{host}/{known.get('db', 0)}", known.get("password") or "")

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise MachineError (4) for errors of Redis, without the password."""
        try:
            yield
        except self.errors as error:
            reason = str(error).replace(self.password, "***") if self.password else str(error)
            # The cause is left out: a traceback could show the URL.
            raise MachineError(f"Redis at {self.address} failed: {reason}", HINT) from None

    def check_settings(self, key: bytes, settings: bytes, name: str) -> None:
        """Store the settings of a new index, or raise ConflictError (5) if an existing one has others."""
        import redis

        client: Any = redis.Redis(connection_pool=self.pool)
        client.set(key, settings, nx=True)
        stored = client.get(key)
        if stored != settings:
            message = f"the index '{name}' in Redis was made with other settings: {stored.decode(errors='replace')}"
            raise ConflictError(message, "use the same settings, or another redis_name")

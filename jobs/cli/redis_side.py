"""The Redis that hands runs to workers: whether it answers."""

from __future__ import annotations

from typing import Final

from imaging.errors import SettingsError
from jobs.cli.dagster_side import short_reason
from resources.settings import Settings

_REDIS_SECONDS: Final = 5.0


def ping_redis(settings: Settings) -> None:
    """Make sure that Redis answers.

    Raises:
        SettingsError: it does not; says why, without the password.
    """
    import redis

    try:
        with redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_connect_timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
        ) as client:
            client.ping()
    except ValueError as error:
        raise SettingsError(f"FC_REDIS_URL cannot be read: {error}.", "Write it as redis://host:6379/0.") from None
    except redis.RedisError as error:
        raise SettingsError(
            f"Redis does not answer: {short_reason(error)}.", "Start it, or correct FC_REDIS_URL."
        ) from None

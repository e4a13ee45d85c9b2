"""Opening the database for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imaging.errors import SettingsError
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.queue.job_queue import JobQueue
    from resources.database import Database


@contextmanager
def opened_database() -> Iterator[Database]:
    """The face-changer database, its schema up to date; closed at the end.

    Raises:
        SettingsError: it cannot be opened, or stops answering on the way.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    from resources.database import DatabaseLostError, open_database

    hint = "Check FC_DATABASE_URL; `fc doctor` says more."
    database = open_database(load_settings().resolved_database_url)
    try:
        yield database
    except DatabaseLostError as error:
        raise SettingsError(error.what, hint) from None
    except (OperationalError, InterfaceError) as error:
        why = " ".join(str(error.orig).split())
        raise SettingsError(f"The database stopped answering: {why}.", hint) from None
    finally:
        database.dispose()


@contextmanager
def opened_queue() -> Iterator[JobQueue]:
    """The queue over the database; errors as in `opened_database`."""
    from jobs.queue.job_queue import JobQueue

    with opened_database() as database:
        yield JobQueue(database)

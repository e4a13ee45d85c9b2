"""`fc worker`: a process that takes runs from Redis and does them, one after another, with its model kept loaded.

Two processes: this one listens and gives signs of life, and its child does the runs. The child lives as long as the
worker, so what it has loaded is there for the next run; if a run kills it (out of memory, a fault of the driver), the
run fails at once and another child takes its place.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from imaging.errors import FaceChangerError, SettingsError
from jobs.cli.dagster_side import open_instance, short_reason
from jobs.cli.doctor import check_data
from jobs.cli.opening import opened_database
from jobs.cli.output import FAILED, INTERRUPTED, err, say
from jobs.cli.redis_side import ping_redis
from resources.settings import Settings, dagster_home, load_settings

if TYPE_CHECKING:
    from resources.launcher import WorkerRunLauncher

BEATS_PER_SILENCE: Final = 6
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG of Linux

_log = logging.getLogger(__name__)


def worker(
    *,
    queue: Annotated[list[str], typer.Option("--queue", "-q", help="gpu or cpu; may be given twice.")],
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, help="Runs at the same time; each loads its own model.")
    ] = 1,
) -> None:
    """Do the runs of one or both queues until Ctrl-C or SIGTERM; the run in hand is finished first.

    A second Ctrl-C ends the run in hand: its jobs go back to the queue. Exit code 130 after Ctrl-C, 0 after SIGTERM.
    """
    settings = load_settings()
    launcher = _launcher()
    queues = _known(queue)
    ping_redis(settings)
    _check_data(settings)
    _load_definitions()
    name = f"{'-'.join(queues)}-{uuid.uuid4().hex[:8]}@{socket.gethostname()}"
    with opened_database() as database:
        from resources.workers import Workers

        database.ping()
        workers = Workers(database)

        def beat() -> None:
            workers.beat(name, queues=queues, host=socket.gethostname(), pid=os.getpid(), run_ids=_run_ids())

        beat()
        try:
            with _repeated(beat, settings.worker_silence / BEATS_PER_SILENCE):
                code = _serve(launcher, name, queues, concurrency)
        finally:
            workers.leave(name)
    if code:
        raise typer.Exit(code)


def _launcher() -> WorkerRunLauncher:
    try:
        from resources.launcher import WorkerRunLauncher
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"Workers need {error.name}, which is not installed.", "Run: pip install 'face-changer[celery]'"
        ) from None
    launcher = open_instance().run_launcher
    if not isinstance(launcher, WorkerRunLauncher):
        raise SettingsError(
            f"{dagster_home() / 'dagster.yaml'} does not hand runs to workers: its launcher is "
            f"{type(launcher).__name__}.",
            "Copy deploy/dagster.celery.yaml over it, here and where the Dagster daemon runs.",
        )
    return launcher


def _known(queues: Sequence[str]) -> list[str]:
    from resources.launcher import QUEUES

    unknown = [name for name in queues if name not in QUEUES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: a queue is {' or '.join(QUEUES)}.", param_hint="--queue")
    return list(dict.fromkeys(queues))


def _check_data(settings: Settings) -> None:
    found = check_data(settings)
    if found.level == "FAIL":
        raise SettingsError(f"The image store cannot be used: {found.found}.", found.hint)


def _load_definitions() -> None:
    """Import the code location, as the runs will; what it imports is shared with every child."""
    try:
        importlib.import_module("fc_assets.definitions")
    except FaceChangerError:
        raise
    except Exception as error:  # whatever an import raises
        raise SettingsError(
            f"The code location fc_assets.definitions cannot be loaded: {short_reason(error)}.",
            "Install face-changer whole in this environment.",
        ) from error


def _serve(launcher: WorkerRunLauncher, name: str, queues: Sequence[str], concurrency: int) -> int:
    """Run Celery's worker until it is told to stop; the exit code."""
    from celery import signals
    from dagster_celery.tasks import create_execute_job_task

    app = launcher.celery
    create_execute_job_task(app)
    stop_signals: list[str] = []

    def on_ready(**_: Any) -> None:  # noqa: ANN401 - Celery's
        say(f"Worker {name} waits for runs. Ctrl-C stops it.", style="bold green")

    def on_stop(*, sig: str, how: str, **_: Any) -> None:  # noqa: ANN401
        stop_signals.append(sig)
        finishing = how == "Warm" and _run_ids()
        say(f"Stopping ({sig}){': the run in hand is finished first' if finishing else ''} ...", console=err)

    signals.worker_ready.connect(on_ready)
    signals.worker_shutting_down.connect(on_stop)
    prepare_child = partial(_prepare_child, os.getpid())
    signals.worker_process_init.connect(prepare_child)  # which is held weakly: by this name alone
    signals.task_postrun.connect(_restore_signals)
    celery_worker = app.Worker(
        hostname=name,
        queues=list(queues),
        pool="prefork",
        concurrency=concurrency,
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    celery_worker.start()
    if "SIGINT" in stop_signals:
        return INTERRUPTED
    return FAILED if celery_worker.exitcode and not stop_signals else 0


def _prepare_child(worker_pid: int, **_: Any) -> None:  # noqa: ANN401 - Celery's
    """In a new child: a terminal's Ctrl-C does not reach its run, and it does not outlive the worker."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != worker_pid:  # it was killed before it could be asked for
        os._exit(FAILED)


def _restore_signals(**_: Any) -> None:  # noqa: ANN401 - Celery's
    """After a run, in the child: Dagster leaves SIGTERM as SIGINT is, ignored, and nothing could stop the child."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run_ids() -> list[str]:
    """The Dagster runs that this worker is at."""
    from celery.worker import state
    from dagster._grpc.types import ExecuteRunArgs
    from dagster._serdes import unpack_value

    packed = [request.kwargs["execute_job_args_packed"] for request in list(state.active_requests)]
    return sorted(unpack_value(one, as_type=ExecuteRunArgs).run_id for one in packed)


@contextmanager
def _repeated(beat: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `beat` every so many seconds, in a thread; when it fails, that is told, and it is called again."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            try:
                beat()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                _log.error("No sign of life could be given: %s", short_reason(error))

    thread = threading.Thread(target=repeat, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

"""`fc doctor`: what is up, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from imaging.errors import FaceChangerError, SettingsError
from jobs.cli.output import FAILED, out, print_json, printable
from resources.backends import Level
from resources.plugins import Kind
from resources.settings import PROJECT_ROOT, Settings, dagster_home, load_settings

if TYPE_CHECKING:
    import dagster as dg

    from jobs.runs.repair import Finding

STYLES: Final[dict[Level, str]] = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}
LOW_SPACE: Final = 2 * 1024**3  # bytes; some hundred jobs
NO_SPACE: Final = 200 * 1024**2
MOST_NAMED: Final = 5  # ids of a finding
LYING_SECONDS: Final = 60.0  # a file is taken within two looks of the daemon
PACKAGE: Final = "face-changer"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `hint` says what to do when it is not OK."""

    name: str
    level: Level
    found: str
    hint: str = ""


def doctor(
    *,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Repair what a crash left: lost jobs, dead runs, missing records. Keeps pictures."),
    ] = False,
    all_jobs: Annotated[
        bool,
        typer.Option("--all", help="Look at the files of every job, not only of those that changed in the last day."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that face-changer needs, and that its records agree; exit code 1 if something FAILs.

    Call it on the machine of the daemon: only there can be told whether a run's process lives.
    """
    checks = list(run_checks(fix=fix, all_jobs=all_jobs))
    worst_is_fail = any(check.level == "FAIL" for check in checks)
    if as_json:
        print_json("checks", {"ok": not worst_is_fail, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _print(check)
    if worst_is_fail:
        raise typer.Exit(FAILED)


def _print(check: Check) -> None:
    line = Text.assemble((f"{check.level:4}", STYLES[check.level]), "  ", (check.name, "bold"), "  ")
    out.print(line.append(printable(check.found)), soft_wrap=True)
    if check.hint and check.level != "OK":
        out.print(Text(f"      Fix: {printable(check.hint)}"), soft_wrap=True)


def run_checks(*, fix: bool = False, all_jobs: bool = False) -> Iterator[Check]:
    """Every check, in the order in which things depend on one another. Errors of one are its finding."""
    yield _guarded("python", check_python)
    yield _guarded("packages", check_packages)
    yield _guarded("fc", check_shell_builtin)
    try:
        settings = load_settings()
    except FaceChangerError as error:
        yield Check("settings", "FAIL", error.what, error.hint)
        return
    yield Check("settings", "OK", "can be read")
    yield _guarded("database", lambda: check_database(settings))
    yield _guarded("queue", check_queue)
    yield _guarded("data", lambda: check_data(settings))
    yield _guarded("inbox", lambda: check_inbox(settings))
    yield _guarded("source roots", lambda: check_source_roots(settings))
    yield from back_end_checks(settings)
    yield _guarded("port", check_port)
    yield _guarded("dagster home", check_home)
    yield from _dagster_checks(lambda instance: _records(instance, settings, fix=fix, all_jobs=all_jobs))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; one that fails itself is a finding."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - shown, and the other checks go on
        return _failed(name, error)


def _failed(name: str, error: Exception) -> Check:
    if isinstance(error, FaceChangerError):
        return Check(name, "FAIL", error.what, error.hint)
    why = f"{type(error).__name__}: {error}"
    return Check(name, "FAIL", f"could not be checked: {why}", "This is a fault of face-changer or of the machine.")


def _dagster_checks(records: Callable[[dg.DagsterInstance], list[Check]]) -> Iterator[Check]:
    if not dagster_home().is_dir():
        yield Check("dagster storage", "WARN", f"{dagster_home()} does not exist yet", "Run `fc up`; it makes it.")
        return
    from jobs.cli.dagster_side import open_instance

    try:
        instance = open_instance()
    except FaceChangerError as error:
        yield Check("dagster storage", "FAIL", error.what, error.hint)
        return
    yield Check("dagster storage", "OK", "answers")
    yield _guarded("daemon", lambda: check_daemon(instance))
    yield _guarded("sensors", lambda: check_sensors(instance))
    yield from _worker_checks(instance)
    try:
        yield from records(instance)
    except Exception as error:  # noqa: BLE001 - shown
        yield _failed("records", error)


def _records(instance: dg.DagsterInstance, settings: Settings, *, fix: bool, all_jobs: bool) -> list[Check]:
    """What the databases, Dagster and the image store disagree about; fixed if `fix`."""
    from jobs.cli.opening import opened_queue
    from jobs.runs.repair import Stores, find_disagreements
    from resources.store.image_store import ImageStore

    with opened_queue() as queue:
        store = ImageStore(settings.resolved_data_dir)
        stores = Stores(instance, queue, store, settings, all_jobs=all_jobs)
        checks = [
            Check(one.name, "OK" if one.fixed else "FAIL", _found(one), "" if one.fixed else one.hint)
            for one in find_disagreements(stores, fix=fix)
        ]
    return checks or [Check("records", "OK", "the databases, Dagster and the image store agree")]


def _found(finding: Finding) -> str:
    more = len(finding.ids) - MOST_NAMED
    ids = ", ".join(finding.ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    done = f" {finding.hint}" if finding.fixed else ""
    return f"{len(finding.ids)}: {finding.found}: {ids}.{done}"


def _worker_checks(instance: dg.DagsterInstance) -> Iterator[Check]:
    """Redis and the workers, where this home hands runs to them or some have told of themselves."""
    settings = load_settings()
    try:
        needed = type(instance.run_launcher).__module__ == "resources.launcher"
    except FaceChangerError as error:
        yield Check("workers", "FAIL", error.what, error.hint)
        return
    if needed:
        yield _guarded("redis", lambda: check_redis(settings))
    yield _guarded("workers", lambda: check_workers(settings, needed=needed))


# ---- the checks


def check_python() -> Check:
    """The Python that the packages are tested with."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "OK", f"{version} in {sys.prefix}")
    return Check("python", "FAIL", f"{version} in {sys.prefix}", "Make the environment with Python 3.11 or 3.12.")


def check_packages() -> Check:
    """Every package that face-changer declares is installed, in a version that it allows."""
    from packaging.requirements import Requirement

    wrong, versions = [], []
    for line in importlib.metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        versions.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        hint = f"Run: {sys.executable} -m pip install -e {PROJECT_ROOT} -c {PROJECT_ROOT / 'constraints.txt'}"
        return Check("packages", "FAIL", "; ".join(wrong), hint)
    return Check("packages", "OK", ", ".join(versions))


def check_shell_builtin() -> Check:
    """The name `fc` in the user's shell."""
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in ("bash", "zsh"):
        return Check("fc", "OK", "the shell has no builtin of this name")
    found = f"in {shell} the word fc is a builtin of the shell, not this command"
    own = Path(sys.executable).parent / "face-changer"
    if shutil.which("face-changer"):
        return Check("fc", "OK", f"{found}; face-changer calls this one")
    return Check("fc", "WARN", found, f"Call {own}, or put that folder on PATH and call face-changer.")


def check_database(settings: Settings) -> Check:
    """The face-changer database answers, at the newest schema."""
    from resources.database import HEAD, open_database

    database = open_database(settings.resolved_database_url)
    try:
        database.ping()
        where = database.engine.url.render_as_string(hide_password=True)
    finally:
        database.dispose()
    return Check("database", "OK", f"{where} answers; schema {HEAD}")


def check_queue() -> Check:
    """Whether the queue is paused."""
    from jobs.cli.by_hand import pause_text
    from jobs.cli.opening import opened_queue

    with opened_queue() as queue:
        found = queue.paused()
    if found is None:
        return Check("queue", "OK", "goes on")
    return Check("queue", "WARN", pause_text(found), "`fc resume`, when it shall go on.")


def check_data(settings: Settings) -> Check:
    """The image store can be written, and there is space."""
    from resources.store.image_store import ImageStore

    folder = _local(ImageStore(settings.resolved_data_dir).root)
    if folder is None:
        return _check_remote_store(settings)
    hint = "Set FC_DATA_DIR to a folder that this user may write."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.", suffix=".tmp"):
            pass
    except OSError as error:
        return Check("data", "FAIL", f"{folder} cannot be written: {error.strerror}", hint)
    free = shutil.disk_usage(folder).free
    found = f"{folder} can be written; {free / 1024**3:.1f} GiB free"
    if free < NO_SPACE:
        return Check("data", "FAIL", found, "Free some space.")
    return Check("data", "WARN" if free < LOW_SPACE else "OK", found, "Free some space soon.")


def _check_remote_store(settings: Settings) -> Check:
    from resources.store.image_store import ImageStore

    store = ImageStore(settings.resolved_data_dir)
    store.exists("doctor", "nothing")  # raises when the store cannot be reached
    return Check("data", "OK", f"{store.url('doctor').removesuffix('/doctor')} answers")


def _local(root: str) -> Path | None:
    return Path(root) if root.startswith("/") else None


def check_inbox(settings: Settings) -> Check:
    """The folder that files are dropped into."""
    inbox = settings.inbox
    if inbox is None:
        return Check("inbox", "OK", "none is set (FC_INBOX)")
    if not inbox.is_dir():
        return Check(
            "inbox", "FAIL", f"FC_INBOX: there is no folder {inbox}; no job starts", f"Make it: mkdir -p {inbox}"
        )
    if not os.access(inbox, os.R_OK | os.W_OK | os.X_OK):
        return Check("inbox", "FAIL", f"FC_INBOX: {inbox} cannot be read and written", "Correct the folder's rights.")
    problems, hints = _inbox_problems(inbox, settings)
    if problems:
        return Check("inbox", "WARN", f"{inbox}: {'; '.join(problems)}", " ".join(hints))
    return Check("inbox", "OK", str(inbox))


def _inbox_problems(inbox: Path, settings: Settings) -> tuple[list[str], list[str]]:
    """What is wrong in the inbox, and what to do about each."""
    from jobs.requests.inbox import lying
    from jobs.requests.inbox_photos import read_template

    problems, hints = [], []
    if settings.inbox_template is not None:
        try:
            read_template(settings.inbox_template)
        except SettingsError as error:
            problems.append(error.what)
            hints.append(error.hint)
    refused = inbox / "rejected"
    count = len(list(refused.glob("*.error.txt"))) if refused.is_dir() else 0
    if count:
        problems.append(f"{count} files were rejected")
        hints.append(f"Read the *.error.txt in {refused}.")
    old = {name: why for name, (age, why) in sorted(lying(inbox, settings).items()) if age > LYING_SECONDS}
    if old:
        named = ", ".join(f"{name} ({why})" for name, why in list(old.items())[:MOST_NAMED])
        more = f" and {len(old) - MOST_NAMED} more" if len(old) > MOST_NAMED else ""
        problems.append(f"{len(old)} lie there for over {LYING_SECONDS:.0f} s: {named}{more}")
        hints.append("Request files and photos are taken while the daemon runs (fc up); move away what is never taken.")
    return problems, hints


def check_source_roots(settings: Settings) -> Check:
    """The folders that source images may come from."""
    if not settings.source_roots:
        return Check("source roots", "OK", "source images may come from anywhere (FC_SOURCE_ROOTS is not set)")
    missing = [str(root) for root in settings.source_roots if not root.is_dir()]
    if missing:
        return Check("source roots", "WARN", f"no such folder: {', '.join(missing)}", "Correct FC_SOURCE_ROOTS.")
    return Check("source roots", "OK", ", ".join(map(str, settings.source_roots)))


def back_end_checks(settings: Settings) -> Iterator[Check]:
    """Which back end of each kind is used, and what each installed one says of itself."""
    yield _guarded("generator", lambda: check_generator(settings))
    yield _guarded("face model", lambda: check_face_generator(settings))
    yield from _inspections("generator", settings)
    yield _guarded("writer", lambda: check_writer(settings))
    yield from _inspections("writer", settings)
    yield _guarded("detector", lambda: check_detector(settings))
    yield from _inspections("detector", settings)
    yield from _inspections("encoder", settings)


def _inspections(kind: Kind, settings: Settings) -> Iterator[Check]:
    from resources.backends import entries

    try:
        known = entries(kind)
    except FaceChangerError as error:
        yield _failed(f"{kind}s", error)
        return
    for inspection, name in [(one.inspection, one.name) for one in known if one.inspection is not None]:
        try:
            finding = inspection.inspect(settings, _is_used(kind, name, settings))
        except Exception as error:  # noqa: BLE001 - shown, and the other checks go on
            yield _failed(inspection.name, error)
            continue
        if finding is not None:
            yield Check(inspection.name, finding.level, finding.found, finding.hint)


def _is_used(kind: Kind, name: str, settings: Settings) -> bool:
    from resources.choose import in_use

    try:
        return name in in_use(kind, settings)
    except FaceChangerError:
        return False  # the check of what is chosen says why


def check_generator(settings: Settings) -> Check:
    """Which generator would make the images."""
    from resources.choose import generator_place, make_generator

    generator, why = make_generator(settings)
    if generator_place(settings) != "network":  # a server has a check of its own
        generator.describe()  # raises when a file is missing
    return Check("generator", "OK", why)


def check_face_generator(settings: Settings) -> Check:
    """Which generator would make the faces."""
    from resources.choose import make_face_generator

    if not settings.face_model:
        return Check("face model", "OK", "the generator makes the faces too (FC_FACE_MODEL is not set)")
    generator, why = make_face_generator(settings)
    generator.describe()
    return Check("face model", "OK", why)


def check_writer(settings: Settings) -> Check:
    """Which writer would write."""
    from resources.choose import make_writer

    _writer, why = make_writer(settings)
    return Check("writer", "OK", why)


def check_detector(settings: Settings) -> Check:
    """Which detector would look for faces."""
    from resources.choose import make_detector

    _detector, why = make_detector(settings)
    return Check("detector", "OK", why)


def check_port() -> Check:
    """The default port of the web UI."""
    from jobs.cli.dagster_side import DEFAULT_PORT
    from jobs.cli.up import answers, check_port_free

    if answers("127.0.0.1", DEFAULT_PORT):
        return Check("port", "OK", f"a Dagster web UI answers on {DEFAULT_PORT}")
    try:
        check_port_free("127.0.0.1", DEFAULT_PORT)
    except FaceChangerError as error:
        return Check("port", "WARN", error.what, f"`fc up --port {DEFAULT_PORT + 1}` uses another one.")
    return Check("port", "OK", f"{DEFAULT_PORT} is free")


def check_home() -> Check:
    """The Dagster home and its configuration."""
    home = dagster_home()
    how = "" if os.environ.get("DAGSTER_HOME") else " (DAGSTER_HOME is not set in the environment)"
    if not home.is_dir():
        return Check("dagster home", "WARN", f"there is no folder {home}{how}", "Run `fc up`; it makes it.")
    if not (home / "dagster.yaml").is_file():
        hint = f"Run `fc up`, or copy {PROJECT_ROOT / 'dagster.yaml'} there: without it lost runs are not noticed."
        return Check("dagster home", "WARN", f"{home} has no dagster.yaml{how}", hint)
    if not os.access(home, os.W_OK | os.X_OK):
        return Check("dagster home", "FAIL", f"{home} cannot be written{how}", "Correct the folder's rights.")
    return Check("dagster home", "OK", f"{home}{how}")


def check_daemon(instance: dg.DagsterInstance) -> Check:
    """The heartbeats of the daemons that this instance needs."""
    from jobs.cli.dagster_side import heartbeat_ages, is_alive

    ages = heartbeat_ages(instance)
    dead = [name for name, age in ages.items() if not is_alive(age)]
    if not dead:
        return Check("daemon", "OK", f"every heartbeat is fresh: {', '.join(ages)}")
    if len(dead) == len(ages):
        return Check("daemon", "WARN", "is not running, so no job starts by itself", "Run `fc up`.")
    return Check(
        "daemon",
        "WARN",
        f"no heartbeat of: {', '.join(dead)}",
        "See service-logs/daemon.log in the Dagster home; restart `fc up`.",
    )


def check_sensors(instance: dg.DagsterInstance) -> Check:
    """Sensors that a person has stopped, and those that have run."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import InstigatorStatus

    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    stopped = sorted(state.instigator_name for state in states if state.status == InstigatorStatus.STOPPED)
    if stopped:
        return Check("sensors", "WARN", f"stopped: {', '.join(stopped)}", "Start them in the UI, under Automation.")
    if not states:
        return Check("sensors", "WARN", "none has run on this home yet", "Run `fc up`; they start with the daemon.")
    return Check("sensors", "OK", "on: " + ", ".join(sorted(state.instigator_name for state in states)))


def check_redis(settings: Settings) -> Check:
    """The Redis that hands runs to workers."""
    from jobs.cli.redis_side import ping_redis

    ping_redis(settings)
    return Check("redis", "OK", "answers")


def check_workers(settings: Settings, *, needed: bool) -> Check:
    """The workers' signs of life, and whether every queue has one."""
    from resources.database import open_database
    from resources.workers import Workers

    database = open_database(settings.resolved_database_url)
    try:
        workers = Workers(database).all()
    finally:
        database.dispose()
    lost = [worker.name for worker in workers if worker.silent_seconds > settings.worker_silence]
    queues = {queue for worker in workers if worker.name not in lost for queue in worker.queues}
    idle = [queue for queue in ("gpu", "cpu") if needed and queue not in queues]
    if idle:
        hint = "Run: " + "; ".join(f"fc worker --queue {queue}" for queue in idle)
        return Check("workers", "WARN", f"nobody takes runs from: {', '.join(idle)}; they wait", hint)
    if lost:
        hint = "Their runs are done anew by others. Start them again; after a day they are forgotten."
        return Check("workers", "WARN", f"no sign of life from: {', '.join(lost)}", hint)
    return Check("workers", "OK", ", ".join(worker.name for worker in workers) or "none are used")

"""Child processes that live and die together, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from imaging.errors import BackendError, SettingsError
from jobs.cli.processes import ServiceDiedError, Services, _group_lives, take_over
from jobs.cli.service_output import LOG_FILES, Output

# A child with a child of its own; both tell their ids. `trap '' X` makes a shell and all below it deaf to a signal.
FAMILY = "{before} sleep 600 & echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}; wait"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Callable[..., tuple[str, ...]]]:
    """Makes the command of such a child; whatever a failed test leaves is killed."""
    made: list[Path] = []

    def make(name: str, before: str = "") -> tuple[str, ...]:
        made.append(tmp_path / f"{name}.pids")
        return ("sh", "-c", FAMILY.format(before=before, pids=made[-1]))

    yield make
    for pid in [pid for path in made if path.exists() for pid in pids(path)]:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(services: Services, *files: Path) -> None:
    services.wait_until(lambda: all(file.exists() for file in files), seconds=20, what="The children's ids")


def test_children_and_grandchildren_are_gone_at_the_end(tmp_path, family):
    commands = {"one": family("one"), "two": family("two")}
    with Services(commands, logs=tmp_path / "logs", grace_seconds=0.3) as services:
        wait_for(services, tmp_path / "one.pids", tmp_path / "two.pids")
        started = [*pids(tmp_path / "one.pids"), *pids(tmp_path / "two.pids")]
        assert len(started) == 4
        assert all(map(lives, started))
    assert not any(map(lives, started))


@pytest.mark.parametrize("deaf", ["trap '' INT;", "trap '' INT TERM;"])
def test_a_child_that_does_not_listen_is_terminated_then_killed(tmp_path, family, deaf):
    with Services({"deaf": family("deaf", deaf)}, logs=tmp_path / "logs", grace_seconds=0.2) as services:
        wait_for(services, tmp_path / "deaf.pids")
        started = pids(tmp_path / "deaf.pids")
    assert not any(map(lives, started))


def test_a_child_that_stops_cleanly_is_given_the_time(tmp_path):
    code = (
        "import signal, sys\n"
        "def end(*_):\n    print('bye'); sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end)\nprint('ready', flush=True)\nsignal.pause()\n"
    )
    with Services({"polite": (sys.executable, "-c", code)}, logs=tmp_path, grace_seconds=20) as services:
        services.wait_until(lambda: "ready" in services.log_path("polite").read_text(), seconds=20, what="It")
    assert services.log_path("polite").read_text().splitlines() == ["ready", "bye"]


def test_a_dead_child_is_named_with_its_last_words_and_the_others_are_stopped(tmp_path, family):
    after_good = f"until [ -e {tmp_path / 'good.pids'} ]; do sleep 0.02; done"
    commands = {"good": family("good"), "bad": ("sh", "-c", f"{after_good}; echo no such database >&2; exit 3")}
    with pytest.raises(ServiceDiedError) as caught, Services(commands, logs=tmp_path, grace_seconds=0.3) as services:  # noqa: PT012
        wait_for(services, tmp_path / "good.pids")
        services.wait_until(lambda: False, seconds=20, what="Nothing")
    assert "bad ended by itself (exit code 3)" in caught.value.what
    assert "no such database" in caught.value.what
    assert str(tmp_path / "bad.log") in caught.value.hint
    assert not any(map(lives, pids(tmp_path / "good.pids")))


def test_what_a_dead_child_left_behind_is_stopped_too(tmp_path):
    orphan = tmp_path / "orphan.pid"
    command = ("sh", "-c", f"sleep 600 & echo $! > {orphan}; exit 0")
    with (
        pytest.raises(ServiceDiedError, match="exit code 0"),
        Services({"parent": command}, logs=tmp_path, grace_seconds=0.3) as services,
    ):
        services.wait_until(lambda: False, seconds=20, what="Nothing")
    assert not lives(int(orphan.read_text()))


def test_a_killed_child_is_said_to_be_killed(tmp_path):
    with (
        pytest.raises(ServiceDiedError, match="killed by SIGKILL"),
        Services({"victim": ("sh", "-c", "kill -9 $$")}, logs=tmp_path) as services,
    ):
        services.wait_until(lambda: False, seconds=20, what="Nothing")


def test_waiting_has_an_end(tmp_path):
    with (
        Services({"sleeper": ("sleep", "600")}, logs=tmp_path) as services,
        pytest.raises(BackendError, match=r"The answer did not come within 0 seconds"),
    ):
        services.wait_until(lambda: False, seconds=0, what="The answer")


def test_a_command_that_cannot_be_started_stops_those_before_it(tmp_path, family):
    commands = {"good": family("good"), "missing": ("/no/such/program",)}
    services = Services(commands, logs=tmp_path, grace_seconds=1)
    with pytest.raises(SettingsError, match="missing cannot be started"):
        services.__enter__()
    with Services({}, logs=tmp_path):  # the lock is free again
        pass
    assert not (tmp_path / "good.pids").exists() or not any(map(lives, pids(tmp_path / "good.pids")))


def test_only_one_at_a_time_on_a_home(tmp_path):
    with Services({}, logs=tmp_path / "logs"):
        with pytest.raises(SettingsError, match="already runs"):
            Services({}, logs=tmp_path / "logs").__enter__()
        with Services({}, logs=tmp_path / "other"):
            pass
    with Services({}, logs=tmp_path / "logs"):
        pass


def test_a_log_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file/logs cannot be written"):
        Services({}, logs=tmp_path / "file" / "logs").__enter__()


TROUBLE = r"""
echo all well
echo 10:00 ERROR again
echo 10:05 ERROR again
printf 'daemon - \033[34mERROR\033[0m - lost\nTraceback:\n  raise ValueError\n'
echo dagster.core.BadError: no
printf 'ValueError: half'
echo > half
until [ -e go ]; do sleep 0.02; done
echo ' and whole'
exec sleep 600
"""


def test_trouble_in_a_log_is_told_once_line_by_line(tmp_path):
    told: list[tuple[str, str]] = []
    with Services(
        {"daemon": ("sh", "-c", TROUBLE)}, logs=tmp_path, on_trouble=lambda *trouble: told.append(trouble)
    ) as services:
        services.wait_until(lambda: (tmp_path / "half").exists() and len(told) >= 3, seconds=20, what="It")
        services.check()
        assert told == [
            ("daemon", "10:00 ERROR again"),
            ("daemon", "daemon - ERROR - lost"),
            ("daemon", "dagster.core.BadError: no"),
        ]
        (tmp_path / "go").touch()
        services.wait_until(lambda: len(told) > 3, seconds=20, what="The rest of the line")
        assert told[3:] == [("daemon", "ValueError: half and whole")]
        services.log_path("daemon").unlink()  # somebody tidies up
        services.check()
        assert len(told) == 4


def test_the_log_of_the_time_before_is_kept(tmp_path):
    for word in ("first", "second"):
        with (
            pytest.raises(ServiceDiedError),
            Services({"echo": ("echo", word)}, logs=tmp_path) as services,
        ):
            services.wait_until(lambda: False, seconds=20, what="Nothing")
    assert services.log_path("echo").read_text() == "second\n"
    assert (tmp_path / "echo.previous.log").read_text() == "first\n"


def test_children_get_the_variables(tmp_path):
    services = Services({"echo": ("sh", "-c", "echo $FC_WORD")}, logs=tmp_path, env={"FC_WORD": "hello"})
    with pytest.raises(ServiceDiedError, match="hello"), services:
        services.wait_until(lambda: False, seconds=20, what="Nothing")


def test_a_group_without_processes_does_not_live():
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet collected
    assert not _group_lives(child.pid)
    child.wait()
    assert not _group_lives(child.pid)


PROGRAM = """
import sys
from pathlib import Path
from jobs.cli.processes import Services, StopRequested, stoppable
logs, pids, *command = sys.argv[1:]
try:
    with stoppable(), Services({"family": command}, logs=Path(logs), grace_seconds=0.3) as services:
        services.wait_until(Path(pids).exists, seconds=20, what="The ids")
        print("ready", flush=True)
        services.wait_until(lambda: False, seconds=600, what="Nothing")
except KeyboardInterrupt:
    sys.exit(130)
except StopRequested as signalled:
    print(signalled)
"""


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, ""), (signal.SIGTERM, 0, "SIGTERM"), (signal.SIGHUP, 0, "SIGHUP")]
)
def test_a_signal_to_the_program_stops_everything(tmp_path, family, number, code, said):
    command = (sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "family.pids"), *family("family"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
        rest, _ = program.communicate(timeout=30)
    assert (program.returncode, rest.strip()) == (code, said)
    assert not any(map(lives, pids(tmp_path / "family.pids")))


def test_a_second_interrupt_kills_at_once(tmp_path):
    patient = PROGRAM.replace("grace_seconds=0.3", "grace_seconds=600")
    heard, ready = tmp_path / "heard", tmp_path / "ready"
    deaf = ("sh", "-c", f"trap 'echo > {heard}' INT; echo $$ > {ready}; while :; do sleep 0.05; done")
    command = (sys.executable, "-c", patient, str(tmp_path), str(ready), *deaf)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGINT)
        with Services({}, logs=tmp_path / "other") as clock:
            clock.wait_until(heard.exists, seconds=20, what="The first interrupt")
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=30) == 130
    assert not lives(int(ready.read_text()))


@contextmanager
def killed(tmp_path: Path, *command: str, with_its_keeper: bool) -> Iterator[None]:
    """A program over such a child, which is killed as soon as it runs; alone, or with the keeper of its children."""
    line = (sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "family.pids"), *command)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        child = pids(tmp_path / "family.pids")[-1]
        keepers = [one for one in psutil.Process(program.pid).children() if one.pid != child]
        assert len(keepers) == 1
        for keeper in keepers if with_its_keeper else ():
            keeper.kill()
        program.kill()
        program.wait()
        yield


@pytest.mark.parametrize("deaf", ["", "trap '' INT TERM;"])
def test_all_end_with_a_program_that_is_killed(tmp_path, family, deaf):
    with killed(tmp_path, *family("family", deaf), with_its_keeper=False):
        started = pids(tmp_path / "family.pids")
        with Services({}, logs=tmp_path / "other") as clock:
            clock.wait_until(lambda: not any(map(lives, started)), seconds=30, what="The end")
    with Services({}, logs=tmp_path):
        pass


@pytest.mark.parametrize("with_its_keeper", [False, True])
def test_the_next_start_takes_over_what_a_killed_program_left(tmp_path, family, with_its_keeper):
    with killed(tmp_path, *family("family", "trap '' INT TERM;"), with_its_keeper=with_its_keeper):
        started = pids(tmp_path / "family.pids")
        assert all(map(lives, started))
        with Services({}, logs=tmp_path, grace_seconds=0.2):
            assert not any(map(lives, started))


def test_what_is_left_can_be_stopped_before_a_start(tmp_path, family):
    with killed(tmp_path, *family("family"), with_its_keeper=True):
        sleeper, child = pids(tmp_path / "family.pids")
        assert take_over(tmp_path) == [child]
        assert not lives(sleeper)
        assert take_over(tmp_path) == []


def test_a_program_that_lives_keeps_what_it_started(tmp_path, family):
    with Services({"family": family("family")}, logs=tmp_path, grace_seconds=0.3) as services:
        wait_for(services, tmp_path / "family.pids")
        assert take_over(tmp_path) == []
        with pytest.raises(SettingsError, match=rf"already runs on {tmp_path.parent} \(process {os.getpid()}\)"):
            Services({}, logs=tmp_path).__enter__()
        assert all(map(lives, pids(tmp_path / "family.pids")))


def test_a_process_that_only_has_an_old_ones_id_is_left_alone(tmp_path):
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        since = psutil.Process(stranger.pid).create_time() - 60
        (tmp_path / ".services.lock").write_text(f"{stranger.pid} {since}\n{stranger.pid} {since}\n")
        with Services({}, logs=tmp_path):
            assert lives(stranger.pid)
        stranger.kill()


def test_a_log_rotates_and_only_so_many_are_kept(tmp_path):
    read, write = os.pipe()
    output = Output(tmp_path / "daemon.log", os.fdopen(read, "rb"), most_bytes=1000)
    with os.fdopen(write, "wb") as child:
        child.writelines(f"line {number}\n".encode() for number in range(1000))
    output.close()
    names = ["daemon.log", *(f"daemon.log.{number}" for number in range(1, LOG_FILES))]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    kept = "".join((tmp_path / name).read_text() for name in reversed(names)).splitlines()
    assert kept == [f"line {number}" for number in range(1000 - len(kept), 1000)]


IDLE_TICKS = """\
\x1b[32m2026-11-25 11:00:52 +0000\x1b[0m - dagster.daemon.SensorDaemon - \x1b[34mINFO\x1b[0m - Checking for new runs for sensor: runs_failed
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Sensor runs_failed skipped: Sensor function returned an empty result
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Sensor job_requests skipped: No job is pending.
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Sensor job_requests skipped: The queue is paused.
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Sensor retention skipped: No finished job is beyond FC_KEEP_DAYS or FC_KEEP_JOBS.
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - No run requests returned for job_requests, skipping
"""  # noqa: E501
TICKS = """\
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Completed launch of run 1 for job_requests
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - INFO - Sensor retention skipped: 3 jobs left the UI.
2026-11-25 11:00:53 +0000 - dagster.daemon.SensorDaemon - ERROR - Sensor daemon caught an error for sensor runs_failed
"""


def test_ticks_in_which_nothing_happened_are_not_logged(tmp_path):
    code = f"print({IDLE_TICKS + TICKS + IDLE_TICKS!r}, end='')"
    with pytest.raises(ServiceDiedError), Services({"daemon": (sys.executable, "-c", code)}, logs=tmp_path) as services:
        services.wait_until(lambda: False, seconds=20, what="Nothing")
    assert (tmp_path / "daemon.log").read_text() == TICKS


def test_a_log_that_cannot_be_written_is_told_and_the_child_goes_on(tmp_path):
    log = tmp_path / "daemon.log"
    log.symlink_to("/dev/full")
    read, write = os.pipe()
    output = Output(log, os.fdopen(read, "rb"))
    with os.fdopen(write, "wb") as child:
        child.write(b"one\ntwo\n")
    assert output.last_words() == "one\ntwo"
    assert set(output.trouble()) == {f"ERROR: {log} cannot be written: No space left on device."}
    output.close()

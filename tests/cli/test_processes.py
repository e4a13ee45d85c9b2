"""Child processes that live and die together, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imaging.errors import BackendError, SettingsError
from jobs.cli.processes import ServiceDiedError, Services, _group_lives

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
exec sleep 600
"""


def test_trouble_in_a_log_is_told_once_line_by_line(tmp_path):
    told: list[tuple[str, str]] = []
    with Services(
        {"daemon": ("sh", "-c", TROUBLE)}, logs=tmp_path, on_trouble=lambda *trouble: told.append(trouble)
    ) as services:
        services.wait_until(lambda: "half" in services.log_path("daemon").read_text(), seconds=20, what="It")
        services.check()
        assert told == [
            ("daemon", "10:00 ERROR again"),
            ("daemon", "daemon - ERROR - lost"),
            ("daemon", "dagster.core.BadError: no"),
        ]
        with services.log_path("daemon").open("a") as log:
            log.write(" and whole\n")
        services.check()
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


def test_what_a_killed_program_left_keeps_others_away_and_is_named(tmp_path, family):
    command = (sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "family.pids"), *family("family"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.kill()
    sleeper, child = pids(tmp_path / "family.pids")
    with pytest.raises(SettingsError, match=rf"process {program.pid}\) or, .* \(processes {child}\)"):
        Services({}, logs=tmp_path).__enter__()
    os.killpg(child, signal.SIGKILL)
    with Services({}, logs=tmp_path / "other") as clock:
        clock.wait_until(lambda: not lives(child) and not lives(sleeper), seconds=20, what="The end")
    with Services({}, logs=tmp_path):
        pass

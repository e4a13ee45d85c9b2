"""The `fc` command, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from imaging.errors import FaceChangerError
from jobs.cli.archive import archive, remove
from jobs.cli.by_hand import pause, priority, release, resume
from jobs.cli.demo import demo
from jobs.cli.doctor import doctor
from jobs.cli.faces import faces
from jobs.cli.history import history
from jobs.cli.list_jobs import list_jobs
from jobs.cli.models import models
from jobs.cli.once import give_once
from jobs.cli.output import exit_code, print_error
from jobs.cli.prune import prune, restore
from jobs.cli.retry import cancel, retry
from jobs.cli.review import approve, rate, reject, review
from jobs.cli.schedule import schedule
from jobs.cli.show import show
from jobs.cli.status import status
from jobs.cli.submit import submit
from jobs.cli.up import up
from jobs.cli.worker import worker

EPILOG = """\
Exit codes: 0 all is well. 1 a job did not complete, or something failed. 2 the input is wrong. 3 there is no such job.
4 the environment is not ready: settings, database, Dagster. 130 Ctrl-C.

Settings come from the environment and .env: DAGSTER_HOME, FC_DATABASE_URL, FC_DATA_DIR and others.

bash and zsh have a builtin that is called fc as well: there, call .venv/bin/fc or face-changer.
"""

app = typer.Typer(
    name="fc",
    help="Turns prompts and photos into finished, described, traceable portrait images.",
    epilog=EPILOG.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"face-changer {version('face-changer')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """What comes before a command."""


app.command("submit")(submit)
app.command("list")(list_jobs)
app.command("show")(show)
app.command("history")(history)
app.command("status")(status)
app.command("prune")(prune)
app.command("restore")(restore)
app.command("cancel")(cancel)
app.command("retry")(retry)
app.command("review")(review)
app.command("approve")(approve)
app.command("reject")(reject)
app.command("rate")(rate)
app.command("release")(release)
app.command("priority")(priority)
app.command("pause")(pause)
app.command("resume")(resume)
app.command("archive")(archive)
app.command("remove")(remove)
app.command("faces")(faces)
app.command("doctor")(doctor)
app.add_typer(schedule, name="schedule")
app.add_typer(models, name="models")
app.command("up")(up)
app.command("worker")(worker)
app.command("demo")(demo)
give_once(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `fc` and exit with its code.

    Args:
        arguments: those of the command line when None.
    """
    called = Path(sys.argv[0]).name
    try:
        app(
            args=None if arguments is None else list(arguments),
            prog_name=called if called == "face-changer" else "fc",  # shells complete the name that was typed
        )
    except FaceChangerError as error:
        print_error(error)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()

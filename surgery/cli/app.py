"""The entry point of the command line: the commands, and how their errors are printed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from surgery.cli.ablate_command import ablate
from surgery.cli.compare_command import compare
from surgery.cli.diagnose_command import diagnose
from surgery.cli.extract_command import extract
from surgery.cli.maximize_command import maximize
from surgery.cli.merge_command import merge
from surgery.cli.model_commands import check, inspect
from surgery.cli.patch_command import patch
from surgery.cli.plugin_commands import app as plugins_app
from surgery.cli.standard_streams import print_message, print_output, safe_standard_streams
from surgery.cli.trace_back_command import trace_back
from surgery.cli.verify_command import verify
from surgery.cli.view_command import view
from surgery.errors import SurgeryError
from surgery.interrupts import watch_interrupts

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell gives it."""


class _Commands(TyperGroup):
    """The commands. Ctrl-C ends each of them with one line, whatever error a library makes of it."""

    def invoke(self, ctx: Any) -> Any:
        with watch_interrupts() as interrupts:
            try:
                return super().invoke(ctx)
            except (typer.Exit, typer.Abort, _USAGE_ERROR):
                raise
            except (KeyboardInterrupt, Exception) as error:
                if not interrupts.received and not isinstance(error, KeyboardInterrupt):
                    raise
                reason = str(error) if isinstance(error, (KeyboardInterrupt, SurgeryError)) else ""
                print_message(f"interrupted; {reason}" if reason else "interrupted")
                raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="See inside a trained PyTorch model: every operation it computes, as a picture.",
)
app.command()(extract)
app.command()(inspect)
app.command()(check)
app.command()(ablate)
app.command()(patch)
app.command()(diagnose)
app.command()(compare)
app.command()(maximize)
app.command("trace-back")(trace_back)
app.command()(merge)
app.command()(verify)
app.command()(view)
app.add_typer(plugins_app, name="plugins")

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""What is raised for arguments that can't be parsed; typer has no public name for it."""


@app.callback(invoke_without_command=True)
def print_version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False
) -> None:
    """Print the version with --version; otherwise do nothing before the command runs."""
    if show:
        from surgery import __version__

        has_kernels = find_spec("surgery.drawing._kernels") is not None
        remark = "" if has_kernels else ", without its compiled kernels: drawing takes longer"
        print_output(f"torch-surgery {__version__}{remark}")
        raise typer.Exit


def main() -> None:
    """Run `surgery`. An error of the project is one line and exit code 1; wrong usage is one line and exit code 2."""
    with safe_standard_streams():
        try:
            sys.exit(app(standalone_mode=False) or 0)
        except _USAGE_ERROR as error:
            if message := _describe_usage_error(error):
                command = error.ctx.command_path if getattr(error, "ctx", None) else "surgery"
                print_message(f"{message[0].lower()}{message[1:]}; `{command} --help` lists the options")
            sys.exit(error.exit_code)
        except SurgeryError as error:
            print_message(str(error))
            sys.exit(1)


def _describe_usage_error(error: Any) -> str:
    """Return the message of wrong usage as one clause; empty if the help text has been printed in its place."""
    message: str = error.format_message().rstrip(".")
    return message.replace(". Did you", "; did you").replace(": Value error, ", ": ")

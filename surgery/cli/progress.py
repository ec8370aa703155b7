"""Progress on standard error while a command works. Nothing is printed where standard error is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from surgery.cli.console import Text, open_console
from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from surgery.output import Progress


class ProgressBar:
    """A progress bar over the images of a run, which disappears at the end."""

    def __init__(self, total: int | None, label: str = "extracting") -> None:
        console = open_console(stderr=True)
        self.bar = RichProgress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(max_width=40, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(escape_unprintable(label), total=total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, progress: Progress) -> None:
        """Show how many images are done, and the name of the last one."""
        self.bar.update(
            self.task,
            total=progress.total,
            completed=progress.done + progress.failed,
            description=escape_unprintable(progress.image),
        )


class StatusLine:
    """A line that names the current step, and disappears at the end. Call it with a text, or with "" to hide it."""

    def __init__(self) -> None:
        console = open_console(stderr=True)
        self.status = console.status("", spinner="line") if console.is_terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("")

    def __call__(self, step: str) -> None:
        if self.status is None:
            return
        if step:
            self.status.update(Text(step))
            self.status.start()
        else:
            self.status.stop()

"""The output of a run, in a folder or at an address."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.addresses import address_identity
from surgery.errors import OutputError, describe_os_error
from surgery.output.address import Address
from surgery.output.image_records import has_finished_images
from surgery.output.locks import Lock, LockHeldError
from surgery.output.manifest_reader import ManifestReader, has_manifest
from surgery.output.recovery import acquire_workspace, check_overwrite
from surgery.output.remote_claim import RemoteClaim
from surgery.output.remote_folder import RemoteFolder
from surgery.output.remote_recovery import UNFINISHED, download_state, remove_unfinished_files
from surgery.output.remote_run import RemoteRun
from surgery.output.tally import Tally
from surgery.output.uploads import Uploads
from surgery.text import BATCH_FOLDER, MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from surgery.output.address import Place
    from surgery.output.workspace import Workspace

STAGING = "SURGERY_STAGING"
"""The environment variable with the folder for staging folders."""


@contextmanager
def acquire_output(
    place: Place, *, overwrite: bool = False, inputs: Iterable[Path] = (), head: Mapping[str, Any] | None = None
) -> Iterator[Workspace]:
    """Yield the workspace of a run that writes to a folder, or to an address, as `acquire_workspace` does.

    For an address it is that of a staging folder on the local disk. What the run records is taken to the address, at
    the latest at the end of the block.
    """
    if not isinstance(place, Address):
        with acquire_workspace(place, overwrite=overwrite, inputs=inputs, head=head) as workspace:
            yield workspace
        return
    with _acquire_staging(place) as folder:
        remote = RemoteFolder(place)
        owner = hashlib.sha256(f"{socket.gethostname()}\n{folder}".encode()).hexdigest()
        claim = RemoteClaim(remote, owner, os.getpid())
        claim.acquire()
        try:
            with _open_staging(claim, folder, overwrite=overwrite, head=head) as workspace:
                yield workspace
        finally:
            with suppress(OutputError):  # then it lapses
                claim.release()
                remote.remove_empty_folders([WORK_FOLDER])


def check_place(place: Place, *, overwrite: bool) -> None:
    """Raise OutputError if a run can't write to a place, as far as that can be told before the run is known.

    That is a folder with a run that can't go on, unless `overwrite` is true, and an address that can't be written to.
    """
    if not isinstance(place, Address):
        check_overwrite(place, overwrite=overwrite or (place / WORK_FOLDER).exists(), can_go_on=True)
        return
    remote = RemoteFolder(place)
    probe = f"{WORK_FOLDER}/{UNFINISHED}probe"  # which the run removes if this process is killed here
    try:
        remote.write(probe, b"[]")
        remote.remove([probe])
    except OutputError as error:
        error.args = (str(error).replace(f"{place / probe}", f"to {place}", 1),)
        raise


def staging_home(address: Address) -> Path:
    """Return the local folder for the staging folder of an address."""
    name = hashlib.sha256(address_identity(address.text).encode(errors="surrogatepass")).hexdigest()[:16]
    if root := os.environ.get(STAGING):
        return Path(root).expanduser() / name
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    elif sys.platform == "darwin":
        caches = Path("~/Library/Caches")
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return caches.expanduser() / "surgery" / "staging" / name


@contextmanager
def _acquire_staging(address: Address) -> Iterator[Path]:
    """Yield an empty staging folder, which no other run of this machine has, and remove it afterwards."""
    home = staging_home(address).absolute()
    lock = Lock(home / "lock")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
        for path in home.iterdir():
            if path != lock.path:  # of a run that was killed
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except LockHeldError as error:
        raise OutputError(
            f"another run writes to {address} ({error.holder}); wait for its end, or write to another address"
        ) from error
    except OSError as error:
        lock.release()
        raise OutputError(
            f"can't write to {home}, where files wait for {address}: {describe_os_error(error)}; set the "
            f"environment variable {STAGING} to another folder"
        ) from error
    try:
        yield home / "run"
    finally:
        for path in [path for path in home.iterdir() if path != lock.path]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # another run has it now
            home.rmdir()


@contextmanager
def _open_staging(
    claim: RemoteClaim, folder: Path, *, overwrite: bool, head: Mapping[str, Any] | None
) -> Iterator[Workspace]:
    """Yield the workspace of a staging folder, which begins with what an earlier run has left at the address."""
    remote, work = claim.remote, folder / WORK_FOLDER
    with ExitStack() as stack:
        try:
            was_killed = download_state(remote, folder)
            workspace = stack.enter_context(acquire_workspace(folder, overwrite=overwrite, head=head))
            earlier = next((ManifestReader(each) for each in (folder, work / "old") if has_manifest(each)), None)
        except OutputError as error:  # about what is at the address
            error.args = (str(error).replace(str(folder), str(remote.address)),)
            raise
        remove_unfinished_files(remote, earlier, _finished_in(earlier))
        goes_on = has_manifest(folder)
        occupied = frozenset(remote.names()) - {WORK_FOLDER, MANIFEST_FILE}
        listed = frozenset(earlier.run_files() if goes_on and earlier else ())
        own = {BATCH_FOLDER, *(name.partition("/")[0] for name in listed)} if goes_on else ()
        run = RemoteRun(remote, claim, folder, occupied, frozenset(own), listed, frozenset(remote.names(WORK_FOLDER)))
        if goes_on:
            run.mark_begun()
        workspace.place, workspace.uploads = remote.address, Uploads(run)

        def end() -> None:
            if not workspace.is_recorded and has_finished_images(workspace.path):
                return  # the next run makes their manifest
            if workspace.is_recorded or (goes_on and was_killed):
                run.complete(_finished_in(ManifestReader(folder)))
            elif goes_on:
                run.withdraw(earlier, _finished_in(earlier))
            else:
                run.withdraw(None, ())

        try:
            yield workspace
        except BaseException:
            with suppress(OutputError):  # the next run does it
                end()
            raise
        end()


def _finished_in(manifest: ManifestReader | None) -> set[int]:
    """Return the numbers of the images in a manifest."""
    if manifest is None or "progress" not in manifest.head:
        return set()
    return Tally.from_manifest(manifest.head).finished

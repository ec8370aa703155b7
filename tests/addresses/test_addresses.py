"""What is shown of an address, and what its errors say."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from surgery.addresses import (
    address_identity,
    address_name,
    describe_address_error,
    hide_secrets,
    is_address,
    local_path,
    open_file_system,
    retry,
)

SHOWN = [
    ("s3://bucket/photos/a.png", "s3://bucket/photos/a.png", "a.png"),
    ("s3://bucket/what?.png", "s3://bucket/what?.png", "what?.png"),
    ("sftp://me:hunter2@host/a.png", "sftp://host/a.png", "a.png"),
    ("https://me:p@ss@host:80/a.png", "https://host:80/a.png", "a.png"),
    ("https://TOKEN@host/a%20b.png", "https://host/a%20b.png", "a b.png"),
    ("https://host/a.png?X-Amz-Signature=1234&w=256", "https://host/a.png?X-Amz-Signature=***&w=256", "a.png"),
    ("https://host/a.png?token=123", "https://host/a.png?token=***", "a.png"),
    ("https://host/a.png?k=hunter2#x", "https://host/a.png?k=***", "a.png"),
    ("https://host/a.png?hunter2", "https://host/a.png?***", "a.png"),
    ("s3://bucket/a.png?versionId=abc", "s3://bucket/a.png?versionId=***", "a.png"),
    ("simplecache::https://me:pw@host/a.png?sig=x", "simplecache::https://host/a.png?sig=***", "a.png"),
    ("zip://in/a.png::https://me:pw@host/x.zip?sig=x", "zip://in/a.png::https://host/x.zip?sig=***", "a.png"),
    ("https://host/folder/", "https://host/folder/", ""),
    ("https://host", "https://host", "host"),
]


@pytest.mark.parametrize(("address", "shown", "name"), SHOWN)
def test_no_password_and_no_token_of_an_address_is_shown(address: str, shown: str, name: str) -> None:
    assert is_address(address)
    assert hide_secrets(address) == shown
    assert hide_secrets(f"can't open '{address}', sorry") == f"can't open '{shown}', sorry"
    assert hide_secrets(shown) == shown
    assert address_name(address) == name


@pytest.mark.parametrize("name", ["a.png", "C:\\photos\\a.png", "c://a.png", "photos/a.png", "://a.png", "@s3.txt", 3])
def test_a_path_is_no_address(name: object) -> None:
    assert not is_address(name)


def test_a_file_address_is_a_path_of_this_machine() -> None:
    assert local_path("file:///photos/a b.png") == "/photos/a b.png"
    assert local_path("local:///photos/a.png") == "/photos/a.png"
    assert local_path("s3://photos/a.png") is None


def test_an_address_that_is_signed_anew_is_the_same_and_another_query_is_not() -> None:
    first = address_identity("https://me:pw@host/a.png?id=cat&X-Amz-Signature=1&X-Amz-Date=2026&token=x")
    again = address_identity("https://host/a.png?id=cat&X-Amz-Signature=2&X-Amz-Date=2027")
    assert first == again == "https://host/a.png?id=cat"
    assert address_identity("https://host/a.png?id=dog") != first
    assert address_identity("https://host/a.png?se=2026-01-01&sig=abc&sv=2024") == "https://host/a.png"


class Answer(Exception):  # noqa: N818 - as aiohttp's errors have it
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(f"{status}, message={message!r}, url='https://me:pw@host/a.png?token=x'")
        self.status, self.message = status, message


class ClientError(Exception):
    """As botocore has it."""

    def __init__(self, status: int) -> None:
        super().__init__("An error occurred (SlowDown) when calling the GetObject operation: reduce your rate")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class ClientConnectionError(Exception):
    """As aiohttp has it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("photos/a.png"), "there is no such file"),
        (FileNotFoundError("The specified bucket does not exist."), "the specified bucket does not exist"),
        (FileNotFoundError("https://me:pw@host/a b.png"), "there is no such file"),
        (PermissionError("Forbidden"), "permission denied"),
        (Answer(403), "permission denied"),
        (Answer(500, "Internal Server Error"), "the server answers 500 Internal Server Error"),
        (ClientError(503), "the server answers 503"),
        (TimeoutError(), "the server does not answer in time"),
        (
            ClientConnectionError("lost https://me:pw@host/x?token=y\nand more"),
            "ClientConnectionError: lost https://host/x?token=***",
        ),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_of_an_address_is_one_line_without_secrets(error: Exception, said: str) -> None:
    assert describe_address_error(error, "s3://bucket/a.png") == said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nosuch://bucket/a.png", "fsspec knows no nosuch://, but s3://, gs://, az://, https:// and others"),
        ("s3n://bucket/a.png", "fsspec knows no s3n://; did you mean 's3'?"),
        ("gdrive://bucket/a.png", "gdrive:// needs gdrive_fsspec, which can't be imported: pip install gdrive-fsspec"),
    ],
)
def test_an_unknown_protocol_and_a_missing_package_are_named(address: str, said: str) -> None:
    with pytest.raises((ImportError, ValueError)) as caught:
        open_file_system(address)
    assert describe_address_error(caught.value, address) == said


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


class Failing:
    """Fails with each of the errors in turn, and then returns 7."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = [*errors]

    def __call__(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7


PASSING: list[Any] = [
    TimeoutError(),
    ConnectionResetError(),
    Answer(503),
    Answer(429),
    ClientError(500),
    ClientConnectionError(),
]
LASTING: list[Any] = [
    FileNotFoundError(),
    PermissionError(),
    Answer(404),
    ClientError(403),
    ValueError(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_fails_for_a_moment_is_tried_again_after_longer_and_longer_waits(
    error: Exception, waits: list[float]
) -> None:
    assert retry(Failing(error, error, error)) == 7
    assert waits == sorted(waits) == [0.5, 1.0, 2.0]
    with pytest.raises(type(error)):
        retry(Failing(*[error] * 4))


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_fails_for_good_is_not_tried_again(error: BaseException, waits: list[float]) -> None:
    with pytest.raises(type(error)):
        retry(Failing(error))
    assert waits == []


def test_fsspec_is_imported_for_an_address_alone() -> None:
    code = "import sys, surgery.addresses as a; a.hide_secrets('s3://x'); print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

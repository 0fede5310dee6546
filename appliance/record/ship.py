"""Where sealed segments and checkpoints are sent: a directory, or a bucket of a store that speaks S3's API.

A thing is acknowledged when a directory has it synced under its name, or the store said 200 to a PUT that told it the
SHA-256 of what it was to get, and shows it in its full length. What was not is sent again, and what is
there already is not: so a break at any point costs at most one object.

Source: "Signature Version 4", AWS General Reference; "PutObject" and "HeadObject", Amazon S3 API Reference. Path style
only: https://HOST/BUCKET/PREFIX/NAME.
"""

import asyncio
import datetime
import hashlib
import hmac
import os
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from appliance.record.disk import sync_names

CHUNK = 1 << 20  # bytes read at a time
CONNECT_S, SILENT_S = 10.0, 60.0  # for a connection; without a byte of progress
ALGORITHM = "AWS4-HMAC-SHA256"
MAX_ERROR = 500  # characters of what a store says that are repeated


class ShipError(Exception):
    """It is not there; it is tried again."""


class Sink(Protocol):
    """A place things are sent to."""

    async def has(self, name: str, size: int) -> bool:
        """Tell whether it has something of this name and size, whole.

        Raises:
            ShipError: it does not answer.
        """

    async def put(self, name: str, path: Path) -> None:
        """Send a file; when this returns, it is acknowledged.

        Raises:
            ShipError: it is not.
        """

    async def close(self) -> None:
        """End connections."""


class Folder:
    """A directory, as of a mounted share. It is not made: a share that is not mounted must not be written under."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def has(self, name: str, size: int) -> bool:
        try:
            return (self._directory / name).stat().st_size == size
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ShipError(f"{self._directory}: {error.strerror}") from error

    async def put(self, name: str, path: Path) -> None:
        await asyncio.to_thread(self._put, name, path)

    def _put(self, name: str, path: Path) -> None:
        target = self._directory / name
        new = target.with_name(target.name + ".part")
        try:
            if not self._directory.is_dir():
                raise ShipError(f"{self._directory} is not there")
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, new.open("wb") as file:
                while data := source.read(CHUNK):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(target)
            sync_names(target.parent)
        except OSError as error:
            raise ShipError(f"{target}: {error.strerror}") from error

    async def close(self) -> None:
        pass


class Credentials(msgspec.Struct, frozen=True):
    """Who we are to a store. Does not show its secret."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Credentials({self.id}, …)"


def credentials(path: Path) -> Credentials:
    """Read them: the id of the key on the first line, the secret on the second.

    Raises:
        ShipError: they are not there.
    """
    try:
        id, secret = path.read_text().split()
    except (OSError, ValueError) as error:
        raise ShipError(f"{path}: no key id and secret, each on a line: {error}") from None
    return Credentials(id, secret)


class Bucket:
    """A bucket, or a part of one, by its URL."""

    def __init__(self, url: str, region: str, key: Path) -> None:
        parts = urlsplit(url)
        self._base, self._host, self._path = f"{parts.scheme}://{parts.netloc}", parts.netloc, parts.path.rstrip("/")
        self._region, self._key = region, key
        self._session: aiohttp.ClientSession | None = None

    async def has(self, name: str, size: int) -> bool:
        status, length, said = await self._call("HEAD", name, None, _hash(b""))
        if status == 404:
            return False
        if status != 200:
            raise ShipError(f"{self._base}{self._path}/{name}: {status} {said}")
        return length == size

    async def put(self, name: str, path: Path) -> None:
        digest, size = _file_hash(path), path.stat().st_size
        status, _, said = await self._call("PUT", name, path, digest)
        if status not in (200, 201):
            raise ShipError(f"{self._base}{self._path}/{name}: {status} {said}")
        if not await self.has(name, size):
            raise ShipError(f"{self._base}{self._path}/{name}: sent, and not there in its full length")

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def _call(self, method: str, name: str, path: Path | None, digest: str) -> tuple[int, int, str]:
        """Return the status, the length of what is there, and what was said of an error."""
        if self._session is None:
            limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
            self._session = aiohttp.ClientSession(timeout=limits, auto_decompress=False)
        target = quote(f"{self._path}/{name}")
        key = credentials(self._key)
        headers = sign(method, self._host, target, digest, region=self._region, key=key, now=_now())
        headers["Content-Length"] = str(path.stat().st_size if path else 0)
        try:
            file = path.open("rb") if path else None
            try:
                async with self._session.request(
                    method, URL(self._base + target, encoded=True), data=file, headers=headers,
                    allow_redirects=False,
                ) as answer:  # fmt: skip
                    said = await answer.content.read(MAX_ERROR) if answer.status >= 300 else b""
                    return answer.status, int(answer.headers.get("Content-Length", 0)), said.decode(errors="replace")
            finally:
                if file:
                    file.close()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ShipError(f"{self._base}: {error or type(error).__name__}") from error


def sign(
    method: str, host: str, path: str, digest: str, *, region: str, key: Credentials, now: datetime.datetime
) -> dict[str, str]:
    """Return the headers of a signed request without a query; `path` is encoded, `digest` that of the body, in hex."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{_hash(request.encode())}"
    secret = f"AWS4{key.secret}".encode()
    for part in (*scope.split("/"), text):
        last = hmac.new(secret, part.encode(), hashlib.sha256)
        secret = last.digest()
    authorization = f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={names}, Signature={last.hexdigest()}"
    return {**headers, "Authorization": authorization}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Zarr at an address: over http(s), in S3 and in Google Cloud Storage.

The stores are obstore's, which zarr has as `zarr.storage.ObjectStore`. What is here: an object that is not there is
told from one that cannot be had, what breaks off is tried again, and no message has a word of the server's, or of an
address what may be secret. Credentials come from the environment.
"""

import asyncio
import base64
import netrc
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from datetime import timedelta
from http import HTTPStatus
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore, WrapperStore

from streamtrack.errors import SourceError
from streamtrack.plain import without_secrets
from streamtrack.waiting import done_within
from streamtrack_drivers.paths import ADDRESSES

if TYPE_CHECKING:
    from obstore.store import ClientConfig, HTTPStore, RetryConfig

CONNECT_S, SILENCE_S, LONGEST_S = 5, 10, 300
"""How long a connection may take to come about, a server may send nothing, and one object may take."""
TRIES, PAUSE_S, LONGER = 4, 0.2, 4.0
"""How often an object is asked for, and the wait before it is again: four times as long each time. With a server that
is silent that makes 44 s, less than a run waits for a frame."""

MOST_METADATA = 64 * 2**20
"""Bytes of an object that is read whole, without knowing how large it has to be."""

_OF_S3 = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
_OF_GS = (
    *("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SKIP_SIGNATURE"),
)
"""One of these says that there are credentials, or are none. Without them nothing is signed: most data are public, and
the search for those of a virtual machine takes half a minute elsewhere."""
_CURES = {
    "http": "if it needs a password, put it into ~/.netrc, or the file that NETRC names in the environment",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; without the right to list a bucket, "
    "what is not there is refused, too",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS in the environment",
}
_STATUS = re.compile(r"status code: (\d{3})")
_FOR_A_WHILE = (408, 425, 429)
_REASONS = (
    ("dns error", "no computer of that name is known"),
    ("ConnectionRefused", "connection refused"),
    ("ertificate", "its certificate is not trusted"),
    ("kind: Timeout", "no answer in time"),
    ("TimedOut", "no answer in time"),
    ("MissingContentLength", "it does not say how long its files are"),
    ("source: Missing", "its answers lack what they need to have"),
    ("RangeNotSupported", "it gives no parts of files, which shards need"),
    ("kind: Connect", "no connection comes about"),
)
"""What is in an error of obstore's, and what that means."""
_LASTING = ("MissingContentLength", "source: Missing", "RangeNotSupported")

T = TypeVar("T")


class RemoteError(SourceError):
    """The server cannot be reached, or gives something other than the object: whether that is there is unknown."""


def open_remote(address: str) -> "RemoteStore":
    """Return the store at an address; nothing is asked of the server yet.

    Raises
    ------
    SourceError
        It is no address that is read, or has a part that may be secret; or obstore is missing.
    """
    scheme, host, path = _parts(address)
    try:
        from obstore.store import GCSStore, HTTPStore, S3Store
    except ModuleNotFoundError:
        raise SourceError('needs obstore to be read over the network: pip install ".[remote]"') from None
    client = _client(scheme)
    retry: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=LONGEST_S)}
    prefix = path or None
    if scheme == "s3":
        signs: dict[str, Any] = {} if _has_any(_OF_S3) else {"skip_signature": True}
        store: Any = S3Store(host, prefix=prefix, client_options=client, retry_config=retry, **signs)
    elif scheme == "gs":
        signs = {} if _has_any(_OF_GS) else {"skip_signature": True}
        store = GCSStore(host, prefix=prefix, client_options=client, retry_config=retry, **signs)
    else:
        store = _web(HTTPStore, address, client, retry)
    return RemoteStore(ObjectStore(store, read_only=True), scheme, without_secrets(address, paths=False))


def in_steps(call: Callable[[], T]) -> T:
    """Return what a call returns, which waits for a server, from a thread of its own: Ctrl-C is heard meanwhile.

    Raises SourceError where it takes too long: a server may send a byte every few seconds.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, name="streamtrack-open", daemon=True).start()
    if not done_within(outcome, LONGEST_S):
        raise SourceError(f"its metadata did not come within {LONGEST_S} s: is it on a server that can be reached?")
    return outcome.result(0)


class RemoteStore(WrapperStore[ObjectStore[Any]]):
    """Reads objects whole, or parts of them; tries again what breaks off.

    Parameters
    ----------
    store
        That of the address.
    scheme
        Of it.
    shown
        The address as messages may have it.
    """

    def __init__(self, store: ObjectStore[Any], scheme: str, shown: str) -> None:
        super().__init__(store)
        self._scheme, self._shown = scheme, shown
        self._gives_parts = True

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"RemoteStore({self._shown!r})"

    @property
    def can_list(self) -> bool:
        """Whether it tells what is in a folder: web servers do not."""
        return self._scheme in ("s3", "gs")

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object or a part of it, None where it is not there; raises RemoteError."""
        data = await self._tried(lambda: self._read(key, byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    async def exists(self, key: str) -> bool:
        """Return whether an object is there; raises RemoteError."""
        return await self._tried(lambda: self._store.exists(key)) or False

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder; raises RemoteError."""

        async def names() -> list[str]:
            return [name async for name in self._store.list_dir(prefix)]

        for name in await self._tried(names) or []:
            yield name

    async def _read(self, key: str, part: ByteRequest | None) -> Any:
        """Return an object or a part of it; empty where it ends before that."""
        import obstore
        from obstore.exceptions import NotSupportedError

        store, starts = self._store.store, isinstance(part, RangeByteRequest) and part.start == 0
        try:
            whole = part is None or (starts and not self._gives_parts)
            found = await obstore.get_async(store, key, options={} if whole else {"range": _range(part)})
            if whole and found.meta["size"] > (part.end if isinstance(part, RangeByteRequest) else MOST_METADATA):
                raise SourceError(f"{key} has {found.meta['size']} bytes, more than it can need")
            return await found.bytes_async()
        except NotSupportedError:
            if not starts:
                raise
            self._gives_parts = False
            return await self._read(key, part)
        except Exception as error:
            if _status(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""
            raise

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return an answer, None where there is no such object; asks again where that may help. Raises RemoteError."""
        pause_s = PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                return await ask()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except SourceError:
                raise
            except Exception as error:
                reason, is_lasting = _reason(error, self._scheme)
            if is_lasting or not left:
                break
            await asyncio.sleep(pause_s)
            pause_s *= LONGER
        tried = "" if is_lasting else f", {TRIES} times"
        raise RemoteError(f"its server cannot be read{tried}: {reason}") from None


def _parts(address: str) -> tuple[str, str, str]:
    """Return scheme, host or bucket, and path of an address that may be read; raises SourceError."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SourceError("is no address: give https://HOST/PATH, s3://BUCKET/PATH or gs://BUCKET/PATH") from None
    if parts.scheme not in ADDRESSES or not host or not address.isprintable():
        raise SourceError("is no address that is read: give https://HOST/PATH, s3://BUCKET/PATH or gs://BUCKET/PATH")
    if "@" in parts.netloc:
        raise SourceError(f"no user or password is taken from an address: {_CURES[_kind(parts.scheme)]}")
    if parts.query or parts.fragment:
        raise SourceError(
            "addresses with ? or # are not read, since what follows is mostly secret: leave it out, or download it"
        )
    if parts.path.lower().endswith(".zip"):
        raise SourceError("zip files are read from a disk only: download it, or unpack it on its server")
    return parts.scheme, parts.netloc if parts.scheme in ("s3", "gs") else host, parts.path.strip("/")


def _client(scheme: str) -> "ClientConfig":
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    # Google's has its own address, https://, and emulators of it theirs, which the environment gives.
    plain = scheme in ("http", "gs") or (scheme == "s3" and endpoint.startswith("http://"))
    return {
        "connect_timeout": f"{CONNECT_S}s",
        "read_timeout": f"{SILENCE_S}s",
        "timeout": f"{LONGEST_S}s",
        **({"allow_http": True} if plain else {}),
    }


def _web(kind: "type[HTTPStore]", address: str, client: "ClientConfig", retry: "RetryConfig") -> "HTTPStore":
    """Return the store of a web server, with the user and password that .netrc has for it."""
    host = urlsplit(address).hostname or ""
    if (login := _login(host)) is not None:
        client = {**client, "default_headers": {"Authorization": f"Basic {login}"}}
    return kind(address.rstrip("/"), client_options=client, retry_config=retry)


def _login(host: str) -> str | None:
    """Return user and password of a host as a header has them; raises SourceError where .netrc cannot be read."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    if not os.path.isfile(path):
        return None
    try:
        known = netrc.netrc(path).hosts.get(host)
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
        raise SourceError(f"{path} cannot be read, where passwords of web servers are looked up: mend it") from None
    return None if known is None else base64.b64encode(f"{known[0]}:{known[2]}".encode()).decode()


def _has_any(names: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in names)


def _range(part: ByteRequest | None) -> Any:
    """Return a part as obstore asks for it."""
    if isinstance(part, RangeByteRequest):
        return part.start, part.end
    if isinstance(part, SuffixByteRequest):
        return {"suffix": part.suffix}
    assert isinstance(part, OffsetByteRequest)
    return {"offset": part.offset}


def _kind(scheme: str) -> str:
    return "http" if scheme == "https" else scheme


def _reason(error: Exception, scheme: str) -> tuple[str, bool]:
    """Return why an object cannot be had, in words of our own, and whether that will be so the next time, too.

    What obstore says has the whole answer of the server in it, keys and what was signed with them included.
    """
    text = str(error)
    if status := _status(error):
        said = f"it answers {status}" + (f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else "")
        if status in (401, 403):
            return f"{said}: {_CURES[_kind(scheme)]}", True
        if 300 <= status < 400:
            moved = "the bucket is in another region: set AWS_REGION" if scheme == "s3" else "give the new address"
            return f"{said}: {moved}", True
        return said, status < 500 and status not in _FOR_A_WHILE
    for mark, meaning in _REASONS:
        if mark in text:
            return meaning, mark in _LASTING
    return f"the connection broke off ({type(error).__name__})", False


def _status(error: Exception) -> int:
    """Return the status with which a server refused, 0 where it did not."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0

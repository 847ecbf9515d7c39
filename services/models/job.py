"""Makes one model what the settings say, or removes those that they do not name; the program of the models' jobs.

It asks Ollama's own interface, and changes nothing where everything is right, so it can be run again. Its one argument is the task as
JSON: see ``components/ai/ollama.py``. Python's standard library is all it needs. What it prints is for the person who deploys; it ends
with 1 and the reason if the model cannot be had.
"""

import contextlib
import datetime
import hashlib
import http.client
import json
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

LIBRARY = "library"
CHUNK = 1 << 20
TRIES = 6
"""How often a download goes on after the connection broke."""
PAUSE_SECONDS = 2
SILENCE_SECONDS = 60
"""How long a download waits for the next byte."""
LOAD_SECONDS = 1800
"""How long Ollama may take for a large model: to load it, or to write its file."""


class ProblemError(Exception):
    """The model cannot be what the settings say; the message tells the numbers and the cure."""


def say(text: str) -> None:
    """Print a line for the person who deploys."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Server:
    """One server of Ollama."""

    def __init__(self, address: str) -> None:
        self._address = address
        # Never by way of a proxy for the internet.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _open(self, path: str, *, method: str = "POST", data: Any = None, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(self._address + path, data, headers or {}, method=method)  # noqa: S310
        try:
            return self._opener.open(request, timeout=LOAD_SECONDS)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]
            raise ProblemError(f"Ollama refuses {path} ({error.code}): {text}") from error

    def call(self, path: str, body: dict[str, Any], *, method: str = "POST") -> Generator[dict[str, Any], None, None]:
        """Yield what Ollama says, one part after the other."""
        with self._open(path, method=method, data=json.dumps(body).encode()) as answer:
            for line in answer:
                part: dict[str, Any] = json.loads(line)
                if "error" in part:
                    raise ProblemError(f"Ollama refuses {path}: {part['error']}")
                yield part

    def digests(self) -> dict[str, str]:
        """Return the digest of each model that is there."""
        with self._open("/api/tags", method="GET") as answer:
            return {model["name"]: model["digest"] for model in json.load(answer)["models"]}

    def has(self, blob: str) -> bool:
        """Return whether the content with this checksum is there."""
        try:
            self._open(f"/api/blobs/sha256:{blob}", method="HEAD").close()
        except ProblemError as error:
            if isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == http.client.NOT_FOUND:
                return False
            raise
        return True

    def upload(self, path: Path, blob: str) -> None:
        """Give it a file, unless it has it."""
        if not self.has(blob):
            with path.open("rb") as file:
                size = {"Content-Length": str(path.stat().st_size)}
                self._open(f"/api/blobs/sha256:{blob}", data=file, headers=size).close()

    def create(self, model: str, parameters: dict[str, Any], **source: Any) -> None:
        """Make a model of another, or of a file that is there."""
        for _ in self.call("/api/create", {"model": model, "parameters": parameters, **source}):
            pass

    def remove(self, model: str) -> None:
        """Remove a model."""
        for _ in self.call("/api/delete", {"model": model}, method="DELETE"):
            pass


class Store:
    """The folder of the models' volume, beside Ollama's own: what was pulled, and downloads that are under way."""

    def __init__(self, folder: str) -> None:
        root = Path(folder)
        self.blobs = root / "models" / "blobs"
        self.downloads = root / "downloads"
        self._digests = root / "digests"
        self._manifests = root / "models" / "manifests"
        self._pulled = root / "pulled"

    def _record(self, model: str) -> Path:
        return self._digests / f"{urllib.parse.quote(model, safe='')}.json"

    def record(self, model: str) -> dict[str, Any]:
        """Return what was noted of a model; empty if nothing was."""
        try:
            return json.loads(self._record(model).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def note(self, model: str, **record: Any) -> None:
        """Note where a model came from and what it became, if that changed; whole or not at all."""
        path, old = self._record(model), self.record(model)
        if record == {key: old.get(key) for key in record}:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
        same = old and all(record[key] == old[key] for key in ("source", "pulled"))
        record = {"model": model, **record, "at": old["at"] if same else now}
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    def _manifest(self, model: str) -> Path:
        """Return where Ollama says what a model is made of; that file's checksum is the model's digest."""
        name, _, tag = model.rpartition(":")
        parts = name.split("/")
        return self._manifests.joinpath(*["registry.ollama.ai", "library"][: 3 - len(parts)], *parts, tag)

    def _kept(self, model: str) -> Path:
        return self._pulled / urllib.parse.quote(model, safe="")

    def keep(self, model: str) -> str:
        """Keep what a model is made of, to restore it; return its digest."""
        manifest = self._manifest(model).read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        self._kept(model).mkdir(parents=True, exist_ok=True)
        (self._kept(model) / digest).write_bytes(manifest)
        return digest

    def forget(self, model: str, *but: str) -> None:
        """Remove what was kept of a model but for these digests."""
        for path in self._kept(model).iterdir():
            if path.name not in but:
                path.unlink()

    def restore(self, model: str, digest: str) -> bool:
        """Make a model what it was with a digest, or the beginning of one; return whether that is still here."""
        found = [path for path in self._kept(model).glob(f"{digest}*") if digest]
        if not found or not all((self.blobs / blob).exists() for blob in _blobs(found[0])):
            return False
        target = self._manifest(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = self._kept(model) / "draft"
        draft.write_bytes(found[0].read_bytes())
        draft.replace(target)
        return True

    def keep_only(self, models: list[str], downloads: list[str]) -> None:
        """Remove the notes of all other models, all other downloads, and what no model is made of or was made of before."""
        notes = {self._record(model) for model in models}
        for path in self._digests.glob("*"):
            if path not in notes:
                path.unlink()
        for path in self.downloads.glob("*"):
            if path.name not in downloads:
                path.unlink()
        kept = {self._kept(model) for model in models}
        for folder in self._pulled.glob("*"):
            if folder not in kept:
                shutil.rmtree(folder)
        manifests = [*self._manifests.rglob("*"), *self._pulled.rglob("*")]
        used = {blob for path in manifests if path.is_file() for blob in _blobs(path)}
        for path in self.blobs.glob("sha256-*"):
            if path.name not in used:
                path.unlink()


def _blobs(manifest: Path) -> set[str]:
    """Return the names of the files that a model is made of."""
    made = json.loads(manifest.read_bytes())
    return {part["digest"].replace(":", "-") for part in (made["config"], *made["layers"])}


def mib(size: int) -> int:
    """Return a number of bytes in MiB, rounded up."""
    return -(-size >> 20)


def check_size(model: str, size: int, limit_mb: int) -> None:
    """Refuse a model that cannot be loaded.

    Raises:
        ProblemError: it is larger than what Ollama may use.
    """
    if limit_mb and mib(size) > limit_mb:
        raise ProblemError(
            f"{model} has {mib(size)} MiB, but Ollama may use {limit_mb} (aikit:ollama-memory-mb): raise that, "
            "or take a smaller quantization."
        )


class Progress:
    """Says how far a download is, each tenth of it once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._said: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell how many bytes of a part are there."""
        tenths = 10 * done // total if total else 0
        if total >= CHUNK and tenths > self._said.get(what, 0):
            self._said[what] = tenths
            say(f"{self._model}: {tenths * 10} % of {mib(total)} MiB")


def pull(server: Server, store: Store, model: str, limit_mb: int) -> None:
    """Fetch a model of Ollama's library.

    Raises:
        ProblemError: it is not there, or too large.
    """
    say(f"{model}: pulling it from the library")
    progress, sizes = Progress(model), dict[str, int]()
    try:
        with contextlib.closing(server.call("/api/pull", {"model": model})) as parts:
            for part in parts:
                if "total" in part and "digest" in part:
                    sizes[part["digest"]] = part["total"]
                    check_size(model, sum(sizes.values()), limit_mb)
                    progress(part["digest"], part.get("completed", 0), part["total"])
    except ProblemError:
        # Ollama keeps the halves to go on with them; what was refused for its size is not fetched again.
        if limit_mb and mib(sum(sizes.values())) > limit_mb:
            time.sleep(PAUSE_SECONDS)
            for digest in sizes:
                for half in store.blobs.glob(f"{digest.replace(':', '-')}-partial*"):
                    half.unlink(missing_ok=True)
        raise


def keep_library(server: Server, store: Store, task: dict[str, Any]) -> None:
    """Have a model of the library, with the digest of the settings or else of its first pull.

    What was pulled and what was made of it is noted beside the models.

    Raises:
        ProblemError: the library has another one by now, or somebody changed it here.
    """
    model, pin, parameters = task["model"], task["digest"], task["parameters"]
    record, found = store.record(model), server.digests().get(model)
    if record and record["source"] != LIBRARY:
        # It came from a file so far, so what is there counts for nothing.
        record, found = {}, None
    if found and record and found != record["kept"]:
        raise ProblemError(
            f"{model} has the digest {found[:12]}, but this deployment made it with {record['kept'][:12]}: somebody changed it by hand. "
            f"Remove it with `ollama rm {model}` in the container of Ollama, then it is fetched again."
        )
    pulled: str = record["pulled"] if record else found or ""
    # What was made with parameters cannot be made without them again.
    other_parameters = record["parameters"] not in ({}, parameters) if record else bool(parameters)
    if not found or not pulled.startswith(pin) or other_parameters:
        expected, earlier = pin or record.get("pulled", ""), pulled
        before = found and store.keep(model)
        if not store.restore(model, expected):
            pull(server, store, model, task["limit_mb"])
        pulled = server.digests()[model]
        if not pulled.startswith(expected):
            # What was there stays: whoever asks it now must not pay for a wrong number here.
            if not (before and store.restore(model, before)):
                server.remove(model)
            reason = (
                f"not {expected[:12]} as aikit:models says: correct it there"
                if pin
                else f"not {expected[:12]} as at its first pull on {record['at']}: look at what changed, and write digest: "
                f"{pulled[:12]} beside it in aikit:models to take the new one"
            )
            raise ProblemError(f"{model} has the digest {pulled[:12]} in the library, {reason}.")
        store.keep(model)
        store.forget(model, pulled, earlier)
    if parameters:
        server.create(model, parameters, **{"from": model})
    store.note(model, source=LIBRARY, pulled=pulled, kept=server.digests()[model], parameters=parameters)
    say(f"{model}: digest {pulled[:12]}")


def checksum(path: Path) -> str:
    """Return the SHA-256 checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows an address to another one, but never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:  # noqa: PLR0917
        """Return the request for the other address."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise ProblemError(f"{req.full_url} leads to {newurl}, which is not https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _go_on(url: str, path: Path, model: str, limit_mb: int) -> None:
    """Fetch what a file still lacks; where the server cannot begin in the middle, all of it."""
    begun = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310
    progress = Progress(model)
    with urllib.request.build_opener(SecureRedirects).open(request, timeout=SILENCE_SECONDS) as answer:
        partial = answer.status == http.client.PARTIAL_CONTENT
        if partial and not str(answer.headers.get("Content-Range")).startswith(f"bytes {begun}-"):
            raise ProblemError(f"{url} answers with the bytes {answer.headers.get('Content-Range')}, not from {begun}.")
        done = begun if partial else 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        check_size(model, total, limit_mb)
        with path.open("ab" if partial else "wb") as file:
            while piece := answer.read(CHUNK):
                file.write(piece)
                done += len(piece)
                check_size(model, done, limit_mb)
                progress(url, done, total)
        if done < total:
            raise ConnectionError(f"it ended after {done} of {total} bytes")


def download(url: str, path: Path, wanted: str, *, model: str, limit_mb: int, pause: float = PAUSE_SECONDS) -> None:
    """Fetch a file; a download that was cut off goes on where it ended, in this run and in the next.

    Raises:
        ProblemError: it cannot be had, is too large, or is not what it should be; then nothing of it is left.
    """
    path.parent.mkdir(exist_ok=True)
    for attempt in range(1, TRIES + 1):
        try:
            _go_on(url, path, model, limit_mb)
            break
        except ProblemError:
            path.unlink(missing_ok=True)
            raise
        except urllib.error.HTTPError as error:
            # What is there is as long as the file, or longer; its checksum tells.
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and path.exists():
                break
            if error.code < http.client.INTERNAL_SERVER_ERROR or attempt == TRIES:
                raise ProblemError(f"{url} cannot be had: {error}.") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == TRIES:
                raise ProblemError(
                    f"{url} cannot be had: {error}. What came of it is kept, and the next deployment goes on with it."
                ) from error
        say(f"{model}: the connection broke, trying again")
        time.sleep(pause)
    if (found := checksum(path)) != wanted:
        path.unlink()
        raise ProblemError(f"{url} has the checksum {found}, not {wanted} as aikit:models says: correct it there.")


def keep_url(server: Server, store: Store, task: dict[str, Any]) -> None:
    """Have a model of a file at an address.

    Raises:
        ProblemError: the file cannot be had or is not what it should be.
    """
    model, blob = task["model"], task["sha256"]
    target, fetched = store.blobs / f"sha256-{blob}", False
    if not server.has(blob):
        say(f"{model}: fetching {task['url']}")
        path = store.downloads / blob
        download(task["url"], path, blob, model=model, limit_mb=task["limit_mb"])
        path.chmod(0o644)
        # Where Ollama has it after an upload, but without a second copy of many gigabytes on the way.
        path.replace(target)
        fetched = True
    try:
        server.create(model, task["parameters"], files={"model.gguf": f"sha256:{blob}"})
    except ProblemError:
        if fetched:
            target.unlink()
        raise
    store.note(model, source=task["url"], pulled=blob, kept=server.digests()[model], parameters=task["parameters"])


def keep_file(server: Server, store: Store, task: dict[str, Any]) -> None:
    """Have a model of a file of this machine.

    Raises:
        ProblemError: the file is not what it should be.
    """
    path = Path(task["file"])
    found = checksum(path)
    if task["sha256"] not in {"", found}:
        raise ProblemError(
            f"{path.name} has the checksum {found}, not {task['sha256']} as aikit:models says: correct it there."
        )
    server.upload(path, found)
    server.create(task["model"], task["parameters"], files={path.name: f"sha256:{found}"})
    kept = server.digests()[task["model"]]
    store.note(task["model"], source="file", pulled=found, kept=kept, parameters=task["parameters"])


def run(task: dict[str, Any]) -> None:
    """Do a task.

    Raises:
        ProblemError: it cannot be done.
    """
    servers = [Server(address) for address in task["servers"]]
    # All servers have the same store; only the first one may write to it.
    first, store = servers[0], Store(task["store"])
    if "kept" in task:
        for model in first.digests():
            if model not in task["kept"]:
                say(f"{model}: removed, as aikit:models does not name it")
                first.remove(model)
        store.keep_only(task["kept"], task["downloads"])
        return
    if task["file"]:
        keep_file(first, store, task)
    elif task["url"]:
        keep_url(first, store, task)
    else:
        keep_library(first, store, task)
    for number, server in enumerate(servers[: task["warm"]], 1):
        for _ in server.call("/api/generate", {"model": task["model"], "keep_alive": task["keep_alive"]}):
            pass
        say(f"{task['model']}: warm on server {number}")


def main(argument: str) -> None:
    """Do the task that is given as JSON; end with 1 and the reason if it cannot be done."""
    try:
        run(json.loads(argument))
    except (ProblemError, OSError, http.client.HTTPException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1])

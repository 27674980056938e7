"""Stand-ins for the Hugging Face Hub: its cache as a folder, and a server on this machine that answers as it does."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def offline_cache(monkeypatch, cache):
    """Have huggingface_hub use `cache`, without network and without anybody's token. Returns `cache`."""
    settings = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": True, "HF_HUB_DISABLE_IMPLICIT_TOKEN": True}
    for name, value in settings.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    return cache


def cached_folder(cache, repo, *, revision="main", commit=COMMIT):
    """Where the files of a repo are in huggingface_hub's cache; made, with the revision that stands for the commit."""
    root = cache / f"models--{repo.replace('/', '--')}"
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    reference = root / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    return folder


@contextmanager
def serving(repos):
    """The address of a server that has `repos`, (repo, revision) → a folder, and the list of what is asked of them."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if parts[:2] == ["api", "models"]:  # api/models/OWNER/REPO/tree/REVISION
                repo, revision, file = "/".join(parts[2:4]), parts[5], None
            elif parts[2:3] == ["resolve"]:  # OWNER/REPO/resolve/REVISION/FILE
                repo, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            else:  # huggingface_hub's own affairs
                return self.send(404, {})
            asked.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
            if repo not in {known for known, _ in repos}:
                return self.send(401, {"X-Error-Code": "RepoNotFound"})
            revision = "main" if revision == COMMIT else revision
            if (repo, revision) not in repos:
                return self.send(404, {"X-Error-Code": "RevisionNotFound"})
            folder = repos[repo, revision]
            if file is None:
                files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
                entries = [
                    {"type": "file", "path": path.relative_to(folder).as_posix(), "size": 1, "oid": "1"}
                    for path in files
                ]
                return self.send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())
            if not (folder / file).is_file():
                return self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            etag = f'"{file.replace("/", "-")}"'
            return self.send(200, {"ETag": etag, "X-Repo-Commit": COMMIT}, (folder / file).read_bytes())

        def send(self, code, headers, content=b""):
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The hub's routes for models, in this process: what huggingface_hub asks to push or fetch."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """One repository: the files of each commit, and the commit of each branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    refused: tuple[int, str] | None = None  # status and error code for whoever asks

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add files on a branch; returns the commit."""
        content = self.commits.get(self.branches.get(branch), {}) | files
        sha = hashlib.sha1(repr((len(self.commits), sorted(content.items()))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        return sha


class Hub(ThreadingHTTPServer):
    """`repositories` by "user/name"; `asked`: each request's path; `token`: may write."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Routes)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.cards: list[str] = []  # that were given to validate-yaml
        self.token = "hf_token"
        self.address = f"http://127.0.0.1:{self.server_port}"


class Routes(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def answer(self, content: object, status: int = 200, **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        """Send an error as the hub does."""
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        """/api/models/ID/(revision|tree)/REVISION and /ID/resolve/REVISION/FILE."""
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.server.repositories.get("/".join(parts[:2]))
        if repository is None:
            return self.refuse(401, "RepoNotFound")  # so the hub does for whoever is not logged in
        route, revision, file = parts[2], parts[3], "/".join(parts[4:])
        if repository.refused and (repository.refused[1] != "GatedRepo" or route == "resolve"):
            return self.refuse(*repository.refused)
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[sha]
        if route == "revision":
            return self.answer({"id": "/".join(parts[:2]), "sha": sha, "siblings": [], "tags": []})
        if route == "tree":
            rows = [
                (name, content, hashlib.sha1(content).hexdigest())
                for name, content in files.items()
            ]
            return self.answer(
                [{"type": "file", "path": n, "size": len(c), "oid": o} for n, c, o in rows]
            )
        if file not in files:
            return self.refuse(404, "EntryNotFound")
        etag = f'"{hashlib.sha1(files[file]).hexdigest()}"'
        self.answer(files[file], ETag=etag, X_Repo_Commit=sha)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """/api/repos/create, /api/validate-yaml and /api/models/ID/(preupload|commit)/BRANCH."""
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            return self.answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.refuse(401, "Unauthorized")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in self.server.repositories else 200
            if status == 200:
                self.server.repositories[name] = Repository()
                self.server.repositories[name].commit({".gitattributes": b""})
            return self.answer({"url": f"{self.server.address}/{name}"}, status)
        *owner, route, branch = unquote(self.path).removeprefix("/api/models/").split("/")
        repository = self.server.repositories["/".join(owner)]
        if branch not in repository.branches:
            return self.refuse(404, "RevisionNotFound")
        if route == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]
            ]
            return self.answer({"files": [one | {"shouldIgnore": False} for one in files]})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            one["value"]["path"]: base64.b64decode(one["value"]["content"])
            for one in lines
            if one["key"] == "file"
        }
        sha = repository.commit(files, branch)
        self.answer(
            {"commitOid": sha, "commitUrl": f"{self.server.address}/{'/'.join(owner)}/commit/{sha}"}
        )


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers in a thread."""
    with Hub() as hub:
        thread = threading.Thread(
            target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()

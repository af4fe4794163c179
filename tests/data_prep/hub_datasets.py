"""Datasets on a hub in this process: the routes of `tests.hub_server`, under `datasets/`."""

from urllib.parse import unquote, urlsplit

from tests.hub_server import Routes


class DatasetRoutes(Routes):
    """One request about a dataset: what it holds, or a file of it."""

    def do_GET(self) -> None:
        """/api/datasets/ID/revision/REVISION and /datasets/ID/resolve/REVISION/FILE."""
        path = unquote(urlsplit(self.path).path)
        repository = next(
            (it for name, it in self.server.repositories.items() if f"/datasets/{name}/" in path),
            None,
        )
        if repository is None or "/revision/" not in path:
            self.path = self.path.replace("/datasets/", "/models/" if "/api/" in path else "/")
            return super().do_GET()
        self.server.asked.append(f"{self.command} {path}")
        revision = path.rpartition("/")[2]
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[sha]
        siblings = [{"rfilename": name, "size": len(files[name])} for name in files]
        about = {"id": "a/b", "sha": sha, "siblings": siblings, "tags": []}
        return self.answer(about | {"cardData": {"license": "cc-by-4.0"}})

    do_HEAD = do_GET

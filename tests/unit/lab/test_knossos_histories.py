"""Where the benchmark's histories of Knossos come from: a release's archive or a checkout, and what is said without."""

import io
import tarfile
from pathlib import Path

import pytest

from lab.checker_bench import knossos

READ = "{:process 0, :type :invoke, :f :read, :value nil}\n{:process 0, :type :ok, :f :read, :value %s}\n"
WRITE = "{:process 1, :type :invoke, :f :write, :value 3}\n{:process 1, :type :ok, :f :write, :value 3}\n"
FILES = {
    "data/cas-register/good/one.edn": WRITE + READ % 3,
    "data/cas-register/good/nil.edn": WRITE + READ % "nil",
    "data/cas-register/good/nothing.edn": "{:process :nemesis, :type :info, :f :start, :value nil}\n",
    "data/cas-register/good/empty.edn": "",
    "data/cas-register/bad/two.edn": WRITE + READ % 4,
    "data/cas-register/bad/two.html": "<html>",
    "data/mutex/bad/three.edn": "{:process 0, :type :invoke, :f :acquire, :value nil}\n",
    "project.clj": "(defproject knossos)",
}
FOUND = [("nil", "valid", 1), ("one", "valid", 2), ("two", "invalid", 2)]


def summary(found: list[knossos.Labelled] | str) -> list[tuple[str, str, int]]:
    assert not isinstance(found, str), found
    return sorted((name, verdict, len(ops)) for name, verdict, ops in found)


def packed() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"knossos-1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def test_a_checkout_and_an_archive_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only registers with operations, with the folder's verdict; a read of nil saw nothing."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert summary(knossos.histories(tmp_path)) == FOUND
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(packed()))
    assert summary(knossos.histories(None)) == FOUND


def test_what_cannot_be_had_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    assert str(tmp_path) in str(knossos.histories(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    said = str(knossos.histories(None))
    assert "no route to host" in said
    assert "--knossos FOLDER" in said
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(packed()[:-30]))
    assert "cannot be read" in str(knossos.histories(None))
    monkeypatch.setattr(knossos, "ARCHIVE_MAX", 100)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(packed()))
    assert "it has more than" in str(knossos.histories(None))

from pathlib import Path

import pytest

from narthex.cli.scanning import files_in
from narthex.core.errors import InvalidRequest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    names = (
        "a.md", "guide/b.md", "guide/deep/c.txt", ".hidden", ".git/config", "node_modules/x.js", "__pycache__/y.pyc",
        "picture.PNG", "empty.txt",
    )  # fmt: skip
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (root / "link.md").symlink_to(root / "a.md")
    (root / "loop").symlink_to(root)
    return root


def names(*paths: Path, **options) -> list[str]:
    return [each.name for each in files_in(paths, **options)]


def test_of_a_folder_is_taken_what_text_may_be_in(folder):
    assert names(folder) == ["docs/a.md", "docs/empty.txt", "docs/guide/b.md", "docs/guide/deep/c.txt"]


def test_a_folder_is_called_the_same_from_within(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(Path()) == names(folder) == names(Path("../docs"))


def test_patterns_choose(folder):
    assert names(folder, include=["*.md"]) == ["docs/a.md", "docs/guide/b.md"]
    assert names(folder, include=["guide/*"]) == ["docs/guide/b.md", "docs/guide/deep/c.txt"]
    assert names(folder, exclude=["guide/*", "empty.*"]) == ["docs/a.md"]
    assert names(folder, include=["*.PNG"]) == ["docs/picture.PNG"]


def test_a_file_that_is_named_is_taken_whatever_it_is(folder):
    assert names(folder / "picture.PNG", folder / ".hidden") == [".hidden", "picture.PNG"]


def test_a_file_is_taken_once(folder):
    assert names(folder, folder, folder / "a.md") == names(folder)


def test_what_is_not_there_is_told(folder):
    with pytest.raises(InvalidRequest, match="There is no file or folder"):
        files_in([folder / "nothing"])

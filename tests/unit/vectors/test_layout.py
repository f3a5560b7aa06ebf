import numpy as np
import pytest

from narthex.vectors.layout import Arrays, ArraysFile, Damaged


def written(path):
    file = ArraysFile(path)
    file.array("a", "<i4", (3,))[:] = [1, 2, 3]
    file.array("none", "<f4", (0, 5))
    file.array("b", "u1", (2, 2))[:] = [[1, 2], [3, 4]]
    file.finish({"rows": 3})
    return path


def test_arrays_come_back(tmp_path):
    arrays = Arrays(written(tmp_path / "x"))
    assert arrays.array("a").tolist() == [1, 2, 3]
    assert arrays.array("b").tolist() == [[1, 2], [3, 4]]
    assert arrays.array("none").shape == (0, 5)
    assert arrays.notes == {"rows": 3}
    with pytest.raises(ValueError, match="read-only"):
        arrays.array("a")[0] = 9


def test_what_is_mapped_outlives_its_file(tmp_path):
    path = written(tmp_path / "x")
    array = Arrays(path).array("a")
    path.unlink()
    assert array.tolist() == [1, 2, 3]


def test_a_file_that_was_not_finished_is_damaged(tmp_path):
    file = ArraysFile(tmp_path / "x")
    file.array("a", "<i4", (3,))[:] = 1
    file.close()
    with pytest.raises(Damaged):
        Arrays(tmp_path / "x")


def test_every_cut_and_every_changed_byte_of_the_head_is_noticed(tmp_path):
    path = written(tmp_path / "x")
    whole = path.read_bytes()
    head = whole.index(b"\n")
    for cut in (0, 1, 9, head, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(Damaged):
            Arrays(path)
    for at in np.random.default_rng(0).integers(0, head, 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Damaged):
            Arrays(path)

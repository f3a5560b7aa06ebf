import numpy as np
import pytest

from narthex.vectors.layout import ArraysFile, Damaged
from narthex.vectors.segment import SegmentFile, open_segment

DIM = 8


def made(path, *, words=("a", "b"), ids=(3, 5, 9)):
    vectors = np.eye(DIM, dtype=np.float32)[: len(ids)]
    with SegmentFile(path, rows=len(ids), dim=DIM) as file:
        file.add(np.array(ids), vectors, [list(words)] * len(ids))
        file.finish()
    return path


def test_ids_are_found_in_their_rows(tmp_path):
    segment = open_segment(made(tmp_path / "s.bin"), dim=DIM)
    assert segment.rows_of(np.array([1, 3, 4, 9, 12])).tolist() == [0, 2]
    assert segment.codes.nearest(np.eye(DIM, dtype=np.float32)[1], 1).tolist() == [1]
    assert segment.postings.find("b") == (3, 6)


def test_texts_without_words(tmp_path):
    segment = open_segment(made(tmp_path / "s.bin", words=()), dim=DIM)
    assert segment.postings.find("a") == (0, 0)
    assert segment.postings.average == 0


def test_no_rows(tmp_path):
    segment = open_segment(made(tmp_path / "s.bin", ids=()), dim=DIM)
    assert segment.rows_of(np.array([1])).tolist() == []


def test_a_file_that_lacks_an_array_is_damaged(tmp_path):
    file = ArraysFile(tmp_path / "x")
    file.array("ids", "<i8", (1,))
    file.finish({"rows": 1, "average": 1})
    with pytest.raises(Damaged):
        open_segment(tmp_path / "x", dim=DIM)


def test_nothing_is_left_of_one_that_was_not_finished(tmp_path):
    with SegmentFile(tmp_path / "s.bin", rows=3, dim=DIM):
        assert [path.name for path in tmp_path.iterdir()] == ["s.tmp"]
    assert list(tmp_path.iterdir()) == []

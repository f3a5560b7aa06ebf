"""Thousands of files that nobody made for a test: none ends the extractor, and nothing of their text is lost."""

import asyncio
import sysconfig
from pathlib import Path

import pytest
from tests.extracted_files import covered, sample
from tests.extractor_process import ExtractorProcess

from narthex.core.documents import Chunking
from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.extract.protocol import Extraction

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

FOLDERS = ("/usr/share/doc", "/usr/share/perl", "/usr/include", "/usr/share/nodejs", "/usr/share/mime", "/usr/bin")


async def test_files_of_this_machine(tmp_path: Path) -> None:
    process = ExtractorProcess(tmp_path)
    extractor = Extractor(process.socket, ensure=process.ensure)
    chunking = Chunking(mode="structure", size=1000)
    folders = [Path(folder) for folder in (*FOLDERS, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))]
    for file in [file for folder in folders if folder.exists() for file in sample(folder, 500)]:
        (result,) = await asyncio.gather(
            extractor.extract(file, name=file.name, media_type=None, chunking=chunking), return_exceptions=True
        )
        assert isinstance(result, Extraction | InvalidRequest | UnsupportedMediaType), file
        if isinstance(result, Extraction):
            covered(result, size=1000)
        else:
            assert isinstance(result, UnsupportedMediaType) or "ended the extractor" not in str(result), file
    assert process.running is not None
    assert process.resident_bytes() < 384 * 1024 * 1024
    await extractor.aclose()
    process.aclose()

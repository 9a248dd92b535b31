"""The zip container of torch's files, read with every size checked before anything is allocated.

torch stores pickles and weights uncompressed, so together they cannot be larger than the file itself. It compresses
code text only, which is small: a compressed member that claims or yields more than MAX_TEXT_BYTES is refused. That
rules out zip bombs, overlapping members included.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from pyexport.errors import IntactError

MAX_FILE_BYTES = 2 << 30
MAX_MEMBERS = 50_000
MAX_TEXT_BYTES = 4 << 20
ZIP_MAGIC = b"PK\x03\x04"


class Archive:
    """A zip file's members by their path below the archive's single top folder."""

    def __init__(self, path: Path) -> None:
        self.file = str(path)
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise IntactError(f"{self.file}: {size} bytes is larger than the {MAX_FILE_BYTES} accepted")
        self.zip = zipfile.ZipFile(path)
        self.members: dict[str, zipfile.ZipInfo] = {}
        infos = self.zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise IntactError(f"{self.file}: {len(infos)} members are more than the {MAX_MEMBERS} accepted")
        if sum(info.file_size for info in infos if info.compress_type == zipfile.ZIP_STORED) > size:
            raise IntactError(f"{self.file}: the members claim to be larger than the file; nothing was unpacked")
        for info in infos:
            self._add(info)

    def _add(self, info: zipfile.ZipInfo) -> None:
        plain = info.compress_type == zipfile.ZIP_STORED
        text = info.compress_type == zipfile.ZIP_DEFLATED and info.file_size <= MAX_TEXT_BYTES
        if not (plain or text) or info.flag_bits & 1:
            raise IntactError(
                f"{self.file}: member {info.filename[:80]!r} is packed (to be {info.file_size} bytes) in a way that "
                "torch never writes; nothing was unpacked, use the file as torch saved it"
            )
        name = info.filename.split("/", 1)[-1]
        if name in self.members:
            raise IntactError(f"{self.file}: member {name[:80]!r} occurs twice; the file is damaged")
        self.members[name] = info

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str) -> bytes:
        """The bytes of member `name`; the zip's checksum is verified."""
        if name not in self.members:
            raise IntactError(f"{self.file}: member {name[:80]!r} is missing; the file is damaged, save it again")
        info = self.members[name]
        with self.zip.open(info) as stream:
            # One byte more than declared: reaches the end, where the checksum is compared, but inflates no further.
            data = stream.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise IntactError(f"{self.file}: member {name[:80]!r} is cut short; the file is damaged, save it again")
        return data

    def text(self, name: str) -> str:
        return self.read(name).decode("utf-8")

"""Shards of pictures and captions, of which one is cut short."""

import io
import tarfile

from tests.data_prep.fuzz_sources import PICTURE

JPEG = PICTURE.getvalue()


CUT = JPEG[: len(JPEG) // 2]


def tar(files, *, kind=tarfile.REGTYPE, target=""):
    """A shard of {name: bytes}; members of another `kind` lead to `target`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


SHARD = {"s0.jpg": JPEG, "s0.txt": b"a boat\n two boats \n\n", "s1.jpg": CUT, "s1.txt": b"a fox"}

"""Files that are either the old one or the new one, never half of each."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Writes aside, flushes to the disk, then renames: a reader, or a crash, never meets half a file.

    A link stays a link, to the new file; a device or a pipe, such as /dev/stdout, is written to as it stands.

    Args:
        path: where it shall stand; its folder is made where it is missing.
        content: bytes as they are, text as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not (path.is_file() or path.is_dir()):
        with open(path, "wb", buffering=0) as device:
            device.write(data)
        return path
    named, path = path, Path(os.path.realpath(path))
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp's 0600 would hide the file from its owner's group
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    return named

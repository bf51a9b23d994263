"""Files that are written whole or not at all, whatever ends the process, and what a killed one leaves of them."""

import os
import secrets
from pathlib import Path

DRAFTS = ".*.tmp*"  # the names of unfinished files


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace the file at `path` by `content`: a reader, or a crash, meets the old one or the new, never a part.

    Nobody can lay a link where the draft will be, for its name is drawn at random.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(draft, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk each byte counts
        raise
    sync(path.parent)


def remove_drafts(folder: Path) -> None:
    """Remove what a killed `write_atomic` left in a folder and in those within; nobody else may write there."""
    for draft in (*folder.glob(DRAFTS), *folder.glob(f"*/{DRAFTS}")):
        if draft.is_file() or draft.is_symlink():
            draft.unlink()


def sync(path: Path) -> None:
    """Force a file, or the names in a directory, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""On which kind of file system a folder lies: locks must never lie on one that other machines share."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

#: File systems whose data lie on other machines, by their type in /proc/self/mountinfo.
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "davfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2", "orangefs", "panfs", "wekafs", "ocfs2", "gfs2"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.mount-s3", "fuse.gcsfuse", "fuse.blobfuse2", "fuse.rclone", "fuse.goofys"),
        *(
            "fuse.ceph",
            "fuse.ceph-fuse",
            "fuse.glusterfs",
            "fuse.juicefs",
            "fuse.davfs",
            "fuse.moosefs",
            "fuse.seaweedfs",
        ),
    }
)

#: mountinfo writes space, tab, line end and backslash as three octal digits.
_ESCAPE = re.compile(r"\\([0-7]{3})")


def mountinfo() -> str:
    """What the kernel says of this process's mounts; empty where it says nothing (macOS)."""
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def type_of(folder: Path, mounts: str) -> str:
    """The file system's type by the longest mount point above `folder`, links followed; `unknown` without one.

    `mounts` is the text of a mountinfo file. Of two mounts at one place the later one covers the earlier.
    """
    whole = PurePosixPath(folder.resolve())
    found, length = "unknown", -1
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.partition(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = PurePosixPath(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        if len(point.parts) >= length and whole.is_relative_to(point):
            found, length = kind, len(point.parts)
    return found


def network_type(folder: Path, mounts: str) -> str | None:
    """The type of the network file system that `folder` lies on; None for one that lies on this machine."""
    kind = type_of(folder, mounts)
    return kind if kind in _NETWORK else None

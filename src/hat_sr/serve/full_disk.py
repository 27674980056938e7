"""A full disk: the server's trouble, and no fault of a picture."""

import errno
import sqlite3

from hat_sr.errors import NoRoomError

STATUS = 507
SENTENCE = "the server's disk is full: try again later"


def caused(error: BaseException | None) -> bool:
    """Whether it is what an error means, or one that it came of."""
    while error is not None:
        match error:
            case NoRoomError():
                return True
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return True
            case sqlite3.Error(sqlite_errorcode=sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR_SHMSIZE):
                return True
        error = error.__cause__
    return False

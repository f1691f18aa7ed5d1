"""A process killed in the middle of its work."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable


def kill_me() -> None:
    """The end of this process: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], object]) -> None:
    """Run ``work`` in a child of this process, which is to kill itself in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads, of which none is in use
        child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        os._exit(3)  # it was not killed
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL

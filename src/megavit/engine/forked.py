"""A forked process with graphs of OpenVINO: they wait for threads that are not there, even when they are freed."""

import ctypes


def never_free(kept: object) -> None:
    """Keep an object, and all that it holds, to the very end of the process, past the interpreter's own end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))

"""SimpleITK, kept from writing to the terminal. Loaded only when one of its formats is read or written."""

from __future__ import annotations

import SimpleITK

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what matters of it, our readers tell themselves


def reason_of(error: RuntimeError) -> str:
    """What SimpleITK's error says, without the places in its source code."""
    lines = [line for line in str(error).splitlines() if line.strip() and "Exception thrown in SimpleITK" not in line]
    return " ".join(line.split("): ", 1)[-1].strip() for line in lines) or "no reason given"

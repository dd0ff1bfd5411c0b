"""How a command must end, whatever it is given."""

import contextlib
import io

from palaver.cli import main


def ended(args):
    """Runs a command: code 0, or 2 and one line that begins with the program's name; the code and the line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(args))
    line = err.getvalue().removesuffix("\n")
    assert code in (0, 2), (code, line)
    if code == 2:
        assert line.startswith("palaver: ") and len(line.splitlines()) == 1 and "Traceback" not in line, line
    else:
        assert not line, line
    return code, line

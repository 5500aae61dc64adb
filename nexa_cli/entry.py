"""The program `nexa`. Its overview is a kept page, because loading click costs 0.1 s of CPU; all else goes to click.

`tools/generate_docs.py` writes the page from the commands, and a test holds it to them.
"""

from __future__ import annotations

import gc
import os
import sys

from nexa_cli.stdout import watch_stdout

_COMPLETING = "_NEXA_COMPLETE"


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] in (["--help"], ["-h"]) and _COMPLETING not in os.environ:
        page = os.path.join(os.path.dirname(__file__), "help.txt")  # noqa: PTH118, PTH120 - pathlib costs as much again
        watch_stdout()
        with open(page, encoding="utf-8") as stream:  # noqa: PTH123
            sys.stdout.write(stream.read())
        sys.stdout.flush()
        return
    # A command loads much and lives for a second: looking for garbage meanwhile costs a tenth of its time.
    gc.set_threshold(100_000)
    # Plugins of pydantic are of no use to our contracts; looking for them reads every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from nexa_cli.main import main as run

    run()


if __name__ == "__main__":
    main()

"""The command `hat-sr`: parse, load, call, write. Only here is anything printed or logging configured.

Exit codes: 0 all is well, 1 something failed (the rest is done), 2 the call itself is wrong, 130, 143 or 129 stopped
by Ctrl-C, SIGTERM or SIGHUP, 141 by whoever read the output and went away, such as `head`.
"""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from cyclopts import App, CycloptsError

from hat_sr import __version__
from hat_sr.allocator import keep_freed_memory
from hat_sr.cli.messages import say
from hat_sr.errors import ConfigError, HatError, InputError, WeightsError

_UNREAD = 141
"""As if by SIGPIPE."""

app = App(
    name="hat-sr",
    help="Make images larger and sharper with HAT, the Hybrid Attention Transformer.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
# Named, not imported: a command's module, and torch with it, is loaded when it is asked for.
for _command, _help in (
    ("upscale:upscale", "Make images larger and sharper."),
    ("benchmark:benchmark", "Score a model on benchmark images, with bicubic beside it."),
    ("lam:lam", "Show which pixels networks use for a part of a picture."),
    ("models:models", "List the networks in the package, and the published ones."),
    ("models:info", "Show what a file of weights holds."),
    ("export:export", "Write a network as a file for ONNX Runtime or OpenVINO."),
    ("train:train", "Train a HAT by a recipe."),
    ("experiment:experiment", "Train networks alike and compare them: pre-training, ablations."),
    ("import_options:import_options", "Turn an official option file into a recipe."),
    ("serve:serve", "Serve a page and an HTTP API that enlarge images."),
):
    app.command(f"hat_sr.cli.{_command}", help=_help)
app.command("hat_sr.cli.data:data_app", name="data", help="Check, prepare, label and degrade training images.")


def main() -> NoReturn:
    """Run the command line and exit."""
    logging.basicConfig(format="%(message)s", handlers=[_StderrOfNow()])
    logging.getLogger("huggingface_hub").propagate = False  # it prints its messages itself
    for name in ("SIGTERM", "SIGHUP"):  # the second is not known everywhere
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # which nohup makes it
            signal.signal(number, _stop)
    keep_freed_memory()
    try:
        code = app(sys.argv[1:], exit_on_error=False) or 0
        if sys.stdout is not None:  # which it is in a process that was started without one
            sys.stdout.flush()
        sys.exit(code)
    except CycloptsError:
        sys.exit(2)  # cyclopts has printed what is wrong
    except BrokenPipeError as error:
        _end_unread()
        _fail(error, code=1)  # another pipe's
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # which rich answers with an end of its own
            sys.exit(_UNREAD)
        raise
    except (ConfigError, InputError, WeightsError) as error:
        _fail(error, code=2)
    except (HatError, OSError) as error:
        _fail(error, code=1)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)


class _StderrOfNow(logging.Handler):
    """Prints to what stderr is at that moment: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _fail(error: Exception, *, code: int) -> NoReturn:
    say(f"hat-sr: {error}")
    sys.exit(code)


def _end_unread() -> None:
    """If nobody reads the output any more, end as other programs do, without a word."""
    try:
        print(flush=True)  # what was to be written before may be gone
    except BrokenPipeError:
        # Python writes what is left when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_UNREAD)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """These signals unwind the stack, so that half-written files are removed."""
    sys.exit(128 + number)

"""The `tcs` command. A command's module is imported when the command is asked for, so `tcs --help` loads no torch."""

import dataclasses
import sys
import time
import unicodedata
from typing import Any, NoReturn

from tcs.cli.interrupts import kept_interrupts

try:
    with kept_interrupts(until_delivered=True):
        import click

        import tcs
        from tcs.cli.failures import INTERRUPTED, USER, failure_of, refused_write, show_traceback
        from tcs.cli.lazy_group import LazyGroup
except KeyboardInterrupt:  # Ctrl-C in the first moments, before there is a command that could be said to be stopped
    sys.exit(130)

# command -> (module, one line of help). The short help stands here, so that listing commands imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "distill": ("tcs.cli.distill", "From images to students in one command: all the stages below."),
    "pretrain": ("tcs.cli.pretrain", "Pretrain a teacher on your own images, where no published one fits."),
    "extract": ("tcs.cli.extract", "Run a teacher over images, once, into a feature store."),
    "fit": ("tcs.cli.fit", "Fit a coordinate system on the features of a store."),
    "targets": ("tcs.cli.targets", "Store coordinates and hash bits of every row, for the mimic losses."),
    "train": ("tcs.cli.train", "Train students from a store and its targets, without the teacher."),
    "eval": ("tcs.cli.eval", "Score students on labelled images, of a store or as they lie."),
    "predict": ("tcs.cli.predict", "Name the likeliest classes of images, by one student."),
    "export": ("tcs.cli.export", "Write students for timm, the Hub, ONNX or torch.export, and prove them."),
    "latency": ("tcs.cli.latency", "Measure how fast students are, beside a teacher."),
    "suggest": ("tcs.cli.suggest", "Choose the images of a store to label next."),
    "audit": ("tcs.cli.audit", "Find wrong labels, copies and odd images of a store."),
    "look": ("tcs.cli.look", "Show what the teacher sees in a store: typical images, neighbours, a map, as one page."),
    "probe": ("tcs.cli.probe", "Score heads on compressed features of a store, without a student."),
    "fewshot": ("tcs.cli.fewshot", "Run the grid shots x students x methods x seeds of a recipe."),
    "report": ("tcs.cli.report", "Turn the results of a grid into a table, a CSV and a figure."),
    "demo": ("tcs.cli.demo", "Run the whole chain on embedded data, in a minute or two."),
    "doctor": ("tcs.cli.doctor", "Check this machine and its packages, and say what to do where something is wrong."),
    "methods": (
        "tcs.cli.methods",
        "List losses and methods: what they need, train and cost, and where they come from.",
    ),
    "verify": ("tcs.cli.verify", "Check any file or folder that tcs wrote, and list all that is wrong."),
    "cache": ("tcs.cli.cache", "Look after a feature store."),
    "help": ("tcs.cli.help", "Show what a command takes, as COMMAND --help does."),
}

# heading of `tcs --help` -> commands, as a user meets them. Names that are not in the table are passed over.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Start here": ("demo", "suggest", "doctor", "distill"),
    "Stages": ("pretrain", "extract", "fit", "targets", "train"),
    "Use a student": ("predict", "eval", "export", "latency"),
    "Look after a store": ("look", "audit", "verify", "cache"),
    "Compare": ("fewshot", "report", "probe", "methods"),
    "Help": ("help",),
}

STOPPED = "stopped; run the same command again to resume."

# Of several ranks that meet one error, rank 0 tells it and the launcher then ends the others, which wait so long for it.
RANK_0_SECONDS = 5.0


@dataclasses.dataclass
class State:
    """What the options before the command say."""

    debug: bool = False


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option("--debug", is_flag=True, help="Show where an error was, with its traceback.")
@click.version_option(tcs.__version__, prog_name="tcs")
@click.pass_obj
def group(state: State | None, debug: bool) -> None:
    """Few-shot TCS distillation with a feature cache: one teacher pass, then many small students without a teacher."""
    if state is not None:
        state.debug = debug


def main(arguments: list[str] | None = None) -> None:
    """Run `tcs` and exit: 0 done, 1 an error told in one line, 2 wrong usage, 70 an error that nobody foresaw (its report is kept),
    130 stopped by Ctrl-C."""
    try:
        with kept_interrupts():
            _run(arguments)
    except KeyboardInterrupt:  # while this function imports, or tells of something else
        _fail(STOPPED, INTERRUPTED)


def _run(arguments: list[str] | None) -> NoReturn:
    """The command, and an exit code for whatever comes of it."""
    from tcs.errors import TcsError

    try:
        from cache.errors import CacheError, StoreWriteError
    except TcsError as error:  # a module of the user's own that is called cache
        _let_rank_0_speak()
        _fail(f"Error: {error}", USER)
    state = State()
    try:
        code: Any = group.main(args=arguments, prog_name="tcs", standalone_mode=False, obj=state)
    except click.ClickException as error:
        _let_rank_0_speak()
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # click takes it for Ctrl-C, but it is a file that ended too soon
            _tell(error.__cause__, state, arguments)
        if _rank():
            sys.exit(INTERRUPTED)
        _fail(STOPPED, INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout, `head` for one, has gone
        sys.stderr.close()
        sys.exit(USER)
    except (TcsError, CacheError) as error:
        _let_rank_0_speak()
        if state.debug:
            show_traceback(error)
        told = str(error)
        if isinstance(error, StoreWriteError):
            told = refused_write(error, sys.argv[1:] if arguments is None else arguments)
        _fail(f"Error: {told}", USER)
    except Exception as error:
        _tell(error, state, arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception, state: State, arguments: list[str] | None) -> NoReturn:
    """Say what no command said of the error, and exit."""
    _let_rank_0_speak()
    if state.debug:
        show_traceback(error)
    failure = failure_of(error, sys.argv[1:] if arguments is None else arguments)
    _fail(failure.message, failure.code)


def _fail(message: str, code: int) -> NoReturn:
    shown = "".join(_printable(letter) for letter in message)  # names and values of others may hold any
    print(f"rank {_rank()}: {shown}" if _rank() else shown, file=sys.stderr, flush=True)
    sys.exit(code)


def _printable(letter: str) -> str:
    """The letter; in place of one that ends the line or commands a terminal its escape."""
    return letter if unicodedata.category(letter) != "Cc" else letter.encode("unicode_escape").decode()


def _let_rank_0_speak() -> None:
    if _rank():
        time.sleep(RANK_0_SECONDS)


def _rank() -> int:
    """Which of torchrun's processes this is; 0 where the environment says no sense, which is an error of its own."""
    from tcs.errors import ConfigError
    from tcs.runtime import place

    try:
        return place().rank
    except ConfigError:
        return 0

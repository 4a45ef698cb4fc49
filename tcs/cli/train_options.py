"""The options of `tcs train`, in the groups that its help shows. Defaults are those of the configuration classes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from tcs.cli.completion import complete_loss, complete_method, complete_student
from tcs.config.audit import DEFAULT_KINDS, KINDS
from tcs.config.augment import INTERPOLATIONS, REMODES
from tcs.config.optimiser import AMP_DTYPES, CLIP_MODES, SCHEDULES
from tcs.config.pool import POOL_ESTIMATORS, POOL_TEACHERS, PROBE_HEADS
from tcs.config.train import HEADS, MIMIC_VIEWS, option_defaults

Decorator = Callable[[Any], Any]
DEFAULTS = option_defaults()
PAIR = {"nargs": 2, "type": float}


class GroupedOption(click.Option):
    """An option that knows under which heading it is shown."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help shows its options under headings, in the order of their first option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options for each heading, the ungrouped ones last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for name in sorted(groups, key=lambda name: name == "Other"):
            with formatter.section(name):
                formatter.write_dl(groups[name])


def option(group: str, *names: str, **settings: Any) -> Decorator:
    """A click option with the default of TrainConfig, shown in the help where there is one."""
    field = next(
        (name for name in names if not name.startswith("-")), names[-1].split("/")[0].lstrip("-").replace("-", "_")
    )
    default = DEFAULTS[field]
    if default is not None and default is not dataclasses.MISSING and not settings.get("multiple"):
        settings = {"default": default, "show_default": not settings.get("is_flag", False)} | settings
    return click.option(*names, cls=GroupedOption, group=group, **settings)


def _in(group: str, *decls: tuple[Any, ...]) -> list[Decorator]:
    return [option(group, *names, **settings) for *names, settings in decls]


PATH, WHOLE, NUMBER, FLAG, MANY = (
    {"type": click.Path()},
    {"type": int},
    {"type": float},
    {"is_flag": True},
    {"multiple": True},
)

OPTIONS: tuple[Decorator, ...] = (
    *_in(
        "What is trained",
        ("--out", PATH | {"required": True, "help": "Run folder; holds one folder a student."}),
        (
            "--model",
            "models",
            MANY
            | {
                "required": True,
                "shell_complete": complete_student,
                "help": "Student: NAME[,k=v...], any timm model. Repeatable: students share one stream of images.",
            },
        ),
        (
            "--targets",
            PATH | {"help": "Targets file; without it coordinates are fitted to STORE, and there are no bits."},
        ),
        (
            "--also",
            MANY
            | {
                "type": click.Path(),
                "help": "Another teacher's store of the same images: its features stand beside those of STORE. Repeatable.",
            },
        ),
        ("--data", {"help": "The images, where STORE holds none: the DATA it was made from."}),
        ("--readout", {"help": "Vectors that losses of features read.  [default: the only ones of STORE]"}),
        (
            "--method",
            {
                "shell_complete": complete_method,
                "help": "A named method, from tcs methods.  [default: tcs-pool; labels where no row is without a label]",
            },
        ),
        (
            "--head",
            {
                "type": click.Choice(HEADS),
                "help": "Instead of --method: the student's head; none reads no labels.  [default: by the loss]",
            },
        ),
        (
            "--loss",
            {
                "shell_complete": complete_loss,
                "help": 'Instead of --method: a sum such as "ce + 0.5*rkd"; a loss without a factor counts once.',
            },
        ),
        ("--pretrained", FLAG | {"help": "Start from timm's pretrained weights."}),
        (
            "--student-checkpoint",
            PATH | {"metavar": "FILE", "help": "Start from a state dict of the student: .safetensors, or torch.save."},
        ),
        (
            "--freeze",
            MANY
            | {"help": "A part of the student that is not trained: backbone, or a module such as layer1. Repeatable."},
        ),
        (
            "--selection",
            {
                "help": "Coordinates the classifier reads: ridge (by labels), pool (by all rows), gates, or a tcs fit FILE.  [default: all]"
            },
        ),
        (
            "--probe-head",
            {
                "type": click.Choice(PROBE_HEADS),
                "help": "The probe of the teacher whose logits kd, dkd, dist and dho-kd read.",
            },
        ),
        (
            "--pool-estimator",
            {
                "type": click.Choice(POOL_ESTIMATORS),
                "metavar": "NAME",
                "help": f"How labels are spread over the pool: {', '.join(POOL_ESTIMATORS)}.",
            },
        ),
        (
            "--pool-teachers",
            {
                "type": click.Choice(POOL_TEACHERS),
                "help": "With --also: spread labels over the pool in joined coordinates, or in each teacher's, then averaged.",
            },
        ),
        ("--pool-temperature", NUMBER | {"help": "Of the soft labels of the loss pool; above 1 they are softer."}),
        (
            "--class-prior",
            MANY | {"help": "NAME=SHARE: which share of the pool a class has. Repeatable, all classes or none."},
        ),
        ("--keep", WHOLE | {"help": "Coordinates whose gates stay open, with --selection gates.  [default: half]"}),
    ),
    *_in(
        "Rows and steps",
        ("--shots", WHOLE | {"help": "Labelled images per class; all labelled rows without it."}),
        ("--split-seed", WHOLE | {"help": "Seed of the k-shot split; --seed without it."}),
        ("--split-file", PATH | {"help": "Labelled rows from a file of 'class key' lines."}),
        (
            "--unlabelled",
            {"help": "Other rows whose pixels are used: all, none, a number, longtail-F or 'without [a, b]'."},
        ),
        (
            "--exclude",
            PATH
            | {"metavar": "FILE", "help": "Leave out the images that this table of tcs audit names, pool included."},
        ),
        (
            "--exclude-kind",
            MANY
            | {
                "type": click.Choice(KINDS),
                "help": f"Kind of its lines to leave out.  [default: {', '.join(DEFAULT_KINDS)}]  Repeatable.",
            },
        ),
        ("--exclude-top", WHOLE | {"help": "How many label errors to leave out, with --exclude-kind label-error."}),
        ("--labelled-share", NUMBER | {"help": "Share of labelled rows in a batch (0.25, or 1.0 without a pool)."}),
        ("--mimic-view", {"type": click.Choice(MIMIC_VIEWS), "help": "View that mimic losses see."}),
        ("-b", "--batch-size", WHOLE | {"help": "Rows per update, in all: over processes and accumulated parts."}),
        ("--steps", WHOLE | {"help": "Training steps (2000 without --steps and --epochs)."}),
        (
            "--epochs",
            WHOLE | {"help": "Passes over the pool (without one, over the labelled rows), instead of --steps."},
        ),
        (
            "--warmup-phase-share",
            NUMBER | {"help": "Share of the steps that mimic before the labels count, in methods with such a phase."},
        ),
        (
            "--held-out",
            WHOLE
            | {
                "help": "Rows to watch the student on, kept out of training; 0 for none.  [default: up to 1,000 that cost no label]"
            },
        ),
        (
            "--held-out-every",
            WHOLE | {"help": "Steps between looks at held-out rows.  [default: a tenth of the steps]"},
        ),
    ),
    *_in(
        "Images (names and meanings are timm's)",
        ("--img-size", WHOLE | {"help": "Student image size in pixels; timm's data config without it."}),
        ("--crop-padding", NUMBER | {"help": "Padding of the random crop, as a share of the side."}),
        ("--scale", PAIR | {"help": "Random resized crop instead: shares of the area, as 0.08 1.0."}),
        ("--ratio", PAIR | {"help": "Ratios width / height of its box."}),
        ("--train-interpolation", {"type": click.Choice(INTERPOLATIONS), "help": "How its box is resized."}),
        (
            "--decode-size",
            WHOLE
            | {"help": "Side of the frames that boxes are cut from.  [default: --img-size / 0.875; / 0.5 for views]"},
        ),
        (
            "--scaled-decoding/--no-scaled-decoding",
            {"help": "Decode JPEGs far larger than a frame at 1/2, 1/4 or 1/8: faster, pixels change a little."},
        ),
        ("--hflip", NUMBER | {"help": "Probability of a horizontal flip."}),
        ("--vflip", NUMBER | {"help": "Probability of a vertical flip."}),
        ("--color-jitter", NUMBER | {"help": "Strength of the colour jitter."}),
        ("--color-jitter-prob", NUMBER | {"help": "Its probability."}),
        ("--grayscale-prob", NUMBER | {"help": "Probability of a grey image."}),
        ("--reprob", NUMBER | {"help": "Probability of random erasing."}),
        ("--remode", {"type": click.Choice(REMODES), "help": "What is put in place of what is erased."}),
        ("--recount", WHOLE | {"help": "Rectangles that are erased."}),
        ("--mixup", NUMBER | {"help": "Mixup alpha, with labels only."}),
        ("--cutmix", NUMBER | {"help": "CutMix alpha, with labels only."}),
        ("--mixup-prob", NUMBER | {"help": "Probability of either."}),
        ("--mixup-switch-prob", NUMBER | {"help": "Probability of CutMix where both are given."}),
        ("--smoothing", NUMBER | {"help": "Label smoothing."}),
    ),
    *_in(
        "Optimiser (names and meanings are timm's)",
        ("--opt", {"help": "Optimiser, by timm's name."}),
        ("--lr", NUMBER | {"help": "Learning rate at the top of the schedule."}),
        ("--momentum", NUMBER | {"help": "Momentum, for optimisers that have one."}),
        ("--weight-decay", NUMBER | {"help": "Not of biases, norms and the projection."}),
        ("--opt-eps", NUMBER | {"help": "Epsilon.  [default: the optimiser's own]"}),
        ("--opt-betas", PAIR | {"help": "Betas.  [default: the optimiser's own]"}),
        ("--layer-decay", NUMBER | {"help": "Factor of the learning rate from layer to layer, down from the head."}),
        ("--clip-grad", NUMBER | {"help": "Largest norm (or value) of the gradient; 0 for none."}),
        ("--clip-mode", {"type": click.Choice(CLIP_MODES), "help": "What is clipped."}),
        ("--sched", {"type": click.Choice(SCHEDULES), "help": "Schedule of the learning rate, over the steps."}),
        ("--min-lr", NUMBER | {"help": "Where it ends."}),
        ("--warmup-lr", NUMBER | {"help": "Where it starts.  [default: --lr / 100]"}),
        ("--warmup-share", NUMBER | {"help": "Share of the steps over which the rate rises."}),
        ("--decay-steps", WHOLE | {"help": "Steps between decays, with --sched step."}),
        (
            "--decay-milestones",
            MANY | WHOLE | {"help": "A step at which the rate decays, with --sched multistep. Repeatable."},
        ),
        ("--decay-rate", NUMBER | {"help": "Factor of a decay; the power of --sched poly."}),
        ("--grad-accum-steps", WHOLE | {"help": "Parts that a batch is computed in, to save memory."}),
        ("--amp", FLAG | {"help": "Forward passes in lower precision."}),
        ("--amp-dtype", {"type": click.Choice(AMP_DTYPES), "help": "Which one."}),
        ("--channels-last/--no-channels-last", {"help": "Memory layout of images."}),
        ("--torchcompile", {"help": "Compile students with this backend, as inductor."}),
        ("--model-ema", FLAG | {"help": "Ship the running average of the weights."}),
        ("--model-ema-decay", NUMBER | {"help": "Its decay a step."}),
        ("--model-ema-warmup", FLAG | {"help": "Let the decay rise from 0."}),
        ("--sync-bn", FLAG | {"help": "Batch statistics over all processes (CUDA)."}),
    ),
    *_in(
        "The run",
        ("--seed", WHOLE | {"help": "Everything random is a function of it."}),
        ("--device", {"help": "cpu, cuda, cuda:1 ..."}),
        (
            *("-j", "--workers"),
            WHOLE | {"help": "Threads that decode streamed images; 0: no batch ahead.  [default: one a core]"},
        ),
        (
            "--resident-share",
            NUMBER | {"help": "Share of the free memory that decoded images may take; more are streamed."},
        ),
        ("--log-interval", WHOLE | {"help": "Steps between rows of the log.  [default: a fiftieth of the steps]"}),
        ("--tensorboard", FLAG | {"help": "Write TensorBoard events too."}),
        ("--checkpoint-every", WHOLE | {"help": "Steps between resumable states."}),
        ("--overwrite", FLAG | {"help": "Delete what an earlier run left in the students' folders."}),
        ("--dry-run", FLAG | {"help": "Time a few steps, tell what the run would take, write nothing."}),
    ),
)


def train_options(command: Any) -> Any:
    """Put all options on a command, in their order."""
    for decorator in reversed(OPTIONS):
        command = decorator(command)
    return command
